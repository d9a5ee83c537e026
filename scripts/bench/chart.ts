/** Line charts with logarithmic axes, as SVG for light and dark pages. */

export interface Panel {
  title: string;
  /** Names of the axes, with their units. */
  x: string;
  y: string;
  points: readonly { x: number; y: number }[];
  /** Under the title. */
  note: string;
}

const [width, height, margin] = [340, 270, { left: 62, right: 16, top: 46, bottom: 46 }];
const perLine = 3;

/** Colours that read on white and on black, and the reader's own choice of the two where the page knows it. */
const style = `
  svg { color: #1f2328; background: #ffffff }
  text { fill: currentColor }
  .axis { stroke: currentColor; fill: none }
  .grid { stroke: currentColor; opacity: 0.15 }
  .faint { opacity: 0.7 }
  .linear { stroke: currentColor; stroke-dasharray: 5 4; fill: none; opacity: 0.7 }
  .measured { stroke: #0969da; fill: none; stroke-width: 2 }
  .dot { fill: #0969da }
  @media (prefers-color-scheme: dark) {
    svg { color: #e6edf3; background: #0d1117 }
    .measured { stroke: #58a6ff }
    .dot { fill: #58a6ff }
  }`;

/** The panels side by side; each with what growing in proportion would look like, from its first point on. */
export function charts(panels: readonly Panel[]): string {
  const lines = Math.ceil(panels.length / perLine);
  const legend = 28;
  const size = { width: width * Math.min(perLine, panels.length), height: height * lines + legend };
  const drawn = panels.map((panel, i) => draw(panel, width * (i % perLine), legend + height * Math.floor(i / perLine)));
  const head = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${size.width} ${size.height}" width="${size.width}" height="${size.height}" font-family="sans-serif" font-size="11">`;
  return [head, `<style>${style}\n</style>`, describeLines(), ...drawn, '</svg>', ''].join('\n');
}

function describeLines(): string {
  return [
    '<path class="measured" d="M62 16H92"/><circle class="dot" cx="77" cy="16" r="3"/>',
    text('measured', 98, 20),
    '<path class="linear" d="M170 16H200"/>',
    text('in proportion to the first point (linear)', 206, 20),
  ].join('');
}

function draw({ title, x, y, points, note }: Panel, left: number, top: number): string {
  const first = points[0]!;
  const linear = points.map((one) => ({ x: one.x, y: (first.y * one.x) / first.x }));
  const [across, up] = [decades(points.map((one) => one.x)), decades([...points, ...linear].map((one) => one.y))];
  const [x0, x1, y1] = [margin.left, width - margin.right, height - margin.bottom];
  const toX = scale(across, x0, x1);
  const toY = scale(up, y1, margin.top);
  const path = (line: readonly { x: number; y: number }[]) =>
    line.map((one, i) => `${i === 0 ? 'M' : 'L'}${toX(one.x).toFixed(1)} ${toY(one.y).toFixed(1)}`).join('');
  const parts = [text(title, x0, 16, 'font-weight="bold"'), text(note, x0, 32, 'class="faint"')];
  for (const value of ticks(up)) {
    parts.push(`<path class="grid" d="M${x0} ${toY(value).toFixed(1)}H${x1}"/>`);
    parts.push(text(short(value), x0 - 6, toY(value) + 4, 'text-anchor="end"'));
  }
  for (const { x: value } of points) {
    parts.push(`<path class="grid" d="M${toX(value).toFixed(1)} ${margin.top}V${y1}"/>`);
    parts.push(text(short(value), toX(value), y1 + 15, 'text-anchor="middle"'));
  }
  const middle = (margin.top + y1) / 2;
  parts.push(
    `<path class="axis" d="M${x0} ${margin.top}V${y1}H${x1}"/>`,
    text(x, (x0 + x1) / 2, height - 12, 'text-anchor="middle"'),
    text(y, 14, middle, `text-anchor="middle" transform="rotate(-90 14 ${middle})"`),
    `<path class="linear" d="${path(linear)}"/>`,
    `<path class="measured" d="${path(points)}"/>`,
    ...points.map((one) => `<circle class="dot" cx="${toX(one.x).toFixed(1)}" cy="${toY(one.y).toFixed(1)}" r="3"/>`),
  );
  return `<g transform="translate(${left} ${top})">${parts.join('')}</g>`;
}

function text(content: string, x: number, y: number, more = ''): string {
  const escaped = content.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}"${more === '' ? '' : ` ${more}`}>${escaped}</text>`;
}

interface Range {
  low: number;
  high: number;
}

/** A little more than the values take. */
function decades(values: readonly number[]): Range {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const spare = Math.max((most / least) ** 0.06, 1.05);
  return { low: least / spare, high: most * spare };
}

/** From a value's logarithm to a place. */
function scale({ low, high }: Range, from: number, to: number): (value: number) => number {
  return (value) => from + (Math.log(value / low) / Math.log(high / low)) * (to - from);
}

/** 1, 2 and 5 of every decade, or 1 alone where that would be too many. */
function ticks({ low, high }: Range): number[] {
  const steps = Math.log10(high / low) > 2 ? [1] : [1, 2, 5];
  const found: number[] = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
    for (const step of steps) found.push(step * 10 ** power);
  }
  return found.filter((value) => value >= low && value <= high);
}

function short(value: number): string {
  if (value >= 1e6) return `${Number((value / 1e6).toPrecision(3))}M`;
  return value >= 1e4 ? `${Number((value / 1e3).toPrecision(3))}k` : String(Number(value.toPrecision(3)));
}
