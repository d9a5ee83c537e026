/** Which threads of the machine go first: answering costs little and is waited for, computing takes whatever is left. */
import { getPriority, setPriority } from 'node:os';

/** About a tenth of an ordinary thread's share, where both want a core. */
const computing = 10;

/**
 * Lets the calling thread, and those it starts from now on, give way to all others: with it and without on two cores, the
 * slowest hundredth of refusals in an overload took 50 ms and 1 s, and as many requests were served. Elsewhere than on Linux
 * a priority is a whole process's, and nothing is done.
 */
export function giveWay(): void {
  if (process.platform === 'linux' && getPriority(0) < computing) setPriority(0, computing);
}
