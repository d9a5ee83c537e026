/** Which threads of the machine go first: answering costs little and is waited for, computing takes whatever is left. */
import { getPriority, setPriority } from 'node:os';

/** A third of an ordinary thread's share where both want a core: enough to let others in at once, little lost to strangers. */
const steps = 5;

/** The lowest priority there is. */
const last = 19;

/**
 * Lets the calling thread, and those it starts from now on, give way to others of its process and of like ones. Elsewhere
 * than on Linux a priority is a whole process's, and nothing is done.
 */
export function giveWay(): void {
  if (process.platform === 'linux') setPriority(0, Math.min(getPriority(0) + steps, last));
}
