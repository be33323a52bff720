/** `to` is undefined when the former owner was forgotten before a new one came. */
export type AddressMoved = (network: string, ip: string, from: string, to: string | undefined) => void;

/**
 * Addresses remembered after their workload went, so that "removed, then given to another pod" is seen as a move even
 * when the two changes are far apart. About 150 B each; beyond it the oldest is reported as moved, which only costs a
 * pooled connection.
 */
export const MAX_FORMER_OWNERS = 16_384;

interface FormerOwner {
  readonly network: string;
  readonly ip: string;
  readonly uid: string;
}

/** Notices when an address goes from one workload to another; leaving and coming back to the same one is no move. */
export class AddressOwners {
  readonly #former = new Map<string, FormerOwner>();
  readonly #moved: AddressMoved;
  readonly #limit: number;

  constructor(moved: AddressMoved, limit: number = MAX_FORMER_OWNERS) {
    this.#moved = moved;
    this.#limit = limit;
  }

  change(network: string, ip: string, from: string | undefined, to: string | undefined): void {
    if (from === to) return;
    const key = `${network}/${ip}`;
    const former = from ?? this.#former.get(key)?.uid;
    this.#former.delete(key);
    if (to !== undefined) {
      if (former !== undefined && former !== to) this.#moved(network, ip, former, to);
      return;
    }
    if (former === undefined) return;
    this.#former.set(key, { network, ip, uid: former });
    if (this.#former.size > this.#limit) this.#forgetOldest();
  }

  #forgetOldest(): void {
    for (const [key, oldest] of this.#former) {
      this.#former.delete(key);
      this.#moved(oldest.network, oldest.ip, oldest.uid, undefined);
      return;
    }
  }
}
