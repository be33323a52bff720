import type { Task } from "./contract.ts";

/**
 * Tasks for one moment of a turn: what is added before `run` runs in it, what is added meanwhile waits for the next one,
 * so that a task that adds itself cannot hold up a turn. A task waits once, however often it is added: the queue is
 * never longer than there are tasks.
 */
export class TurnQueue {
  #waiting: Task[] = [];
  #running: Task[] = [];

  /** Tasks that wait for the next `run`. */
  get size(): number {
    return this.#waiting.length;
  }

  add(task: Task): void {
    if (task.deferred) return;
    task.deferred = true;
    this.#waiting.push(task);
  }

  /** Hands every waiting task to `execute`, oldest first; returns how many. */
  run(execute: (task: Task) => void): number {
    if (this.#waiting.length === 0) return 0;
    const tasks = this.#waiting;
    this.#waiting = this.#running;
    this.#running = tasks;
    const count = tasks.length;
    for (let i = 0; i < count; i++) {
      const task = tasks[i] as Task;
      task.deferred = false;
      execute(task);
    }
    tasks.length = 0;
    return count;
  }

  /** Forgets what waits. */
  clear(): void {
    for (const task of this.#waiting) task.deferred = false;
    this.#waiting.length = 0;
  }
}
