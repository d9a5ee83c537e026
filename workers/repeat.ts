/** Runs `work` again and again, each time so long after the last has ended; returns how to stop that. */
export function repeat(milliseconds: number, work: () => Promise<void>): () => void {
  let timer: NodeJS.Timeout;
  let isOver = false;
  const next = async () => {
    await work();
    if (!isOver) timer = setTimeout(next, milliseconds);
  };
  timer = setTimeout(next, 0);
  return () => {
    isOver = true;
    clearTimeout(timer);
  };
}
