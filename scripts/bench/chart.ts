/** Line charts with logarithmic axes, as SVG. */

export interface Panel {
  title: string;
  x: string;
  y: string;
  series: { name: string; points: readonly { x: number; y: number }[] }[];
}

const [width, height, margin] = [340, 240, { left: 58, right: 14, top: 34, bottom: 42 }];
const colors = ['#1f77b4', '#d62728', '#2ca02c', '#9467bd'];

/** The panels side by side, three in a line. */
export function charts(panels: readonly Panel[]): string {
  const lines = Math.ceil(panels.length / 3);
  const size = { width: width * Math.min(3, panels.length), height: height * lines };
  const drawn = panels.map((panel, i) => draw(panel, width * (i % 3), height * Math.floor(i / 3)));
  const head = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${size.width} ${size.height}" width="${size.width}" height="${size.height}" font-family="sans-serif" font-size="11">`;
  return `${head}\n<rect width="100%" height="100%" fill="#fff"/>\n${drawn.join('\n')}\n</svg>\n`;
}

function draw({ title, x, y, series }: Panel, left: number, top: number): string {
  const points = series.flatMap((one) => one.points);
  const [across, up] = [points.map((one) => one.x), points.map((one) => one.y)];
  const [x0, x1, y1] = [margin.left, width - margin.right, height - margin.bottom];
  const toX = scale(across, x0, x1);
  const toY = scale(up, y1, margin.top);
  const label = (text: string, at: [number, number], more = '') =>
    `<text x="${at[0].toFixed(1)}" y="${at[1].toFixed(1)}" ${more}>${escaped(text)}</text>`;
  const parts = [
    label(title, [x0, 14], 'font-weight="bold"'),
    label(x, [(x0 + x1) / 2, height - 8], 'text-anchor="middle"'),
    label(y, [x0, 28], 'fill="#555"'),
    `<path d="M${x0} ${margin.top}V${y1}H${x1}" fill="none" stroke="#888"/>`,
  ];
  for (const value of new Set(across)) parts.push(label(short(value), [toX(value), y1 + 14], 'text-anchor="middle"'));
  for (const value of ends(up)) parts.push(label(short(value), [x0 - 5, toY(value) + 4], 'text-anchor="end"'));
  for (const [i, { name, points: line }] of series.entries()) {
    const color = colors[i % colors.length]!;
    const path = line.map((one) => `${toX(one.x).toFixed(1)},${toY(one.y).toFixed(1)}`);
    parts.push(`<polyline points="${path.join(' ')}" fill="none" stroke="${color}" stroke-width="2"/>`);
    for (const at of path)
      parts.push(`<circle cx="${at.split(',')[0]}" cy="${at.split(',')[1]}" r="3" fill="${color}"/>`);
    if (series.length > 1) parts.push(label(name, [x0 + 8, margin.top + 12 + 14 * i], `fill="${color}"`));
  }
  return `<g transform="translate(${left} ${top})">${parts.join('')}</g>`;
}

/** From a value's logarithm to a place; at least a factor of four fills the axis, so that noise does not look like growth. */
function scale(values: readonly number[], from: number, to: number): (value: number) => number {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const spare = Math.max(0, Math.log(4) - Math.log(most / least)) / 2;
  const [low, high] = [Math.log(least) - spare, Math.log(most) + spare];
  return (value) => from + ((Math.log(value) - low) / (high - low)) * (to - from);
}

function ends(values: readonly number[]): Set<number> {
  return new Set([Math.min(...values), Math.max(...values)]);
}

function short(value: number): string {
  if (value >= 1e6) return `${Number((value / 1e6).toPrecision(3))}M`;
  return value >= 1e4 ? `${Number((value / 1e3).toPrecision(3))}k` : String(Number(value.toPrecision(3)));
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}
