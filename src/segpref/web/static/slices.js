/** Where slices lie, and those of the current assignment that were fetched. */

import { Failure, request } from "./server.js";
import { state } from "./state.js";

const CACHE_BYTES = 256 * 2 ** 20;

const ARRAYS = {
  uint8: Uint8Array,
  int8: Int8Array,
  uint16: Uint16Array,
  int16: Int16Array,
  uint32: Uint32Array,
  int32: Int32Array,
  float32: Float32Array,
};

/** Height, width and pixel size (mm, or 1 x 1) of slices along an axis. */
export function plane(axis) {
  const [z, y, x] = state.task.image.shape;
  const [dz, dy, dx] = state.task.image.spacing_mm ?? [1, 1, 1];
  return {
    axial: { count: z, height: y, width: x, tall: dy, wide: dx },
    coronal: { count: y, height: z, width: x, tall: dz, wide: dx },
    sagittal: { count: x, height: z, width: y, tall: dz, wide: dy },
  }[axis];
}

/** Slices of the current assignment: those last used, up to a number of bytes. */
export const cache = {
  entries: new Map(),
  bytes: 0,
  controller: new AbortController(),

  clear() {
    this.controller.abort();
    this.controller = new AbortController();
    this.entries.clear();
    this.bytes = 0;
  },

  /** Values of one slice ("image" or "masks"), fetched once; a failed one is fetched again when asked for again. */
  get(kind, axis, index) {
    const key = `${kind}/${axis}/${index}`;
    let entry = this.entries.get(key);
    if (entry) {
      this.entries.delete(key); // to its place among those last used
    } else {
      entry = { bytes: 0, values: this.fetch(kind, axis, index, key) };
      entry.values.catch(() => this.entries.get(key) === entry && this.entries.delete(key));
    }
    this.entries.set(key, entry);
    return entry.values;
  },

  async fetch(kind, axis, index, key) {
    const { image, assignment, sides, mask_dtype: maskType } = state.task;
    const { height, width } = plane(axis);
    const type = ARRAYS[kind === "image" ? image.dtype : maskType];
    const length = height * width * (kind === "image" ? image.channels : sides);
    const path = `api/assignments/${encodeURIComponent(assignment)}/${key}`;
    const signal = AbortSignal.any([this.controller.signal, AbortSignal.timeout(60_000)]);
    const buffer = await (await request("GET", path, undefined, signal)).arrayBuffer();
    if (buffer.byteLength !== length * type.BYTES_PER_ELEMENT) throw new Failure(0, "It arrived incomplete.");
    const entry = this.entries.get(key);
    if (entry && !signal.aborted) {
      entry.bytes = buffer.byteLength;
      this.bytes += buffer.byteLength;
      for (const [name, old] of this.entries) {
        if (this.bytes <= CACHE_BYTES || name === key) break;
        this.bytes -= old.bytes;
        this.entries.delete(name);
      }
    }
    return new type(buffer);
  },

  /** The slices that are likely next: neighbours, further ahead in the direction of travel, and the next difference. */
  prefetch(axis, index, step) {
    const { count } = plane(axis);
    const difference = nextDifference(axis, index);
    const likely = [index + step, index + 2 * step, index - step, index + 3 * step, difference];
    for (const one of likely) {
      if (one === null || one < 0 || one >= count) continue;
      this.get("image", axis, one).catch(() => {});
      this.get("masks", axis, one).catch(() => {});
    }
  },
};

/** The next slice on which masks differ, from the first again after the last; null where there is none. */
export function nextDifference(axis, index) {
  const differing = state.task.slices[axis] ?? [];
  return differing.find((one) => one > index) ?? differing[0] ?? null;
}
