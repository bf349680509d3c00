/**
 * The page on which a rater compares masks: no library, no build step, a plain 2D canvas.
 *
 * Slices arrive as raw values, image and masks apart. Two canvases in their native pixels hold what is shown of them:
 * the image after windowing, and the colours of each mask. `draw` puts them on the screen in true proportion (the image
 * smoothed if wished, masks never), and contours as lines along pixel edges. A window, zoom or opacity therefore changes
 * without asking the server, and an image may be larger than any texture.
 *
 * A rater can answer only while everything asked for is drawn (`state.phase` is "ready"). An answer counts as stored
 * only once the server says so; until then it is kept in this browser and sent again under the same UUID.
 *
 * Sections: state, server, answers that are not stored yet, slices, native pixels, screen, view, answers, pages, keys,
 * pointer, start.
 */

// ------------------------------------------------------------------------------------------------------------- state

const AXES = ["axial", "coronal", "sagittal"];
const LETTERS = {
  axial: { top: "A", bottom: "P", left: "R", right: "L" },
  coronal: { top: "S", bottom: "I", left: "R", right: "L" },
  sagittal: { top: "S", bottom: "I", left: "A", right: "P" },
};

/** Okabe and Ito's colours, told apart by colour-blind people too; yellow is kept for differences. */
const COLOURS = [
  [86, 180, 233],
  [230, 159, 0],
  [0, 158, 115],
  [204, 121, 167],
  [213, 94, 0],
  [0, 114, 178],
];
const DIFFERENCE = [240, 228, 66];
const DIFFERENCE_OPACITY = 0.75;
const LINE_WIDTH = 2; // of contours, in CSS pixels
const FLICKER_MS = 400; // slower than three flashes per second
const CACHE_BYTES = 256 * 2 ** 20;

/** Answers of each mode: what is sent, its key as the browser names it, as the screen shows it, and words. */
const PAIR = [
  ["left", "arrowleft", "←", "Left is better"],
  ["tie", "=", "=", "Equally good"],
  ["both-bad", "b", "B", "Both bad"],
  ["cant-tell", "u", "U", "Can’t tell"],
  ["right", "arrowright", "→", "Right is better"],
];
const CHOICES = {
  pair: PAIR,
  "base-or-tuned": PAIR,
  "accept-reject": [
    ["accept", "a", "A", "Accept"],
    ["cant-tell", "u", "U", "Can’t tell"],
    ["reject", "r", "R", "Reject"],
  ],
  "best-of-four": [
    ["best-0", "q", "Q", "Top left"],
    ["best-1", "w", "W", "Top right"],
    ["best-2", "a", "A", "Bottom left"],
    ["best-3", "s", "S", "Bottom right"],
    ["none-good", "b", "B", "None is good"],
    ["cant-tell", "u", "U", "Can’t tell"],
  ],
};
const PLACES = {
  1: ["Mask"],
  2: ["Left", "Right"],
  4: ["Q · top left", "W · top right", "A · bottom left", "S · bottom right"],
};
const HOW = {
  pair: "You see one image twice, each time with another mask. Press ← or → for the better one.",
  "base-or-tuned": "You see one image twice, each time with another mask. Press ← or → for the better one.",
  "accept-reject": "You see an image with one mask. Press A if you would accept it as it is, R if not.",
  "best-of-four": "You see one image four times, each time with another mask. Press Q, W, A or S for the best one.",
};

const $ = (id) => document.getElementById(id);

const state = {
  page: "message", // which <main> is shown
  phase: "loading", // of an assignment: loading, ready, failed, sending, feedback
  study: null,
  task: null, // the assignment as POST /api/next gives it
  view: null, // { axis, index, centre, width, zoom, panX, panY }: one for all panes
  show: { masks: true, outline: true, opacity: 40, differences: false, others: false, smooth: true },
  sure: null,
  turn: 0, // by how many places the masks are moved on while flickering
  slice: null, // what is drawn: { axis, index, height, width, image, masks }
  seen: {}, // axis -> Set of indices drawn
  shownMs: 0, // how long this assignment has been visible, up to shownSince
  shownSince: null,
  canUndo: false,
};

// ------------------------------------------------------------------------------------------------------------ server

/** An answer other than success; status 0 where there was none. */
class Failure extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }

  /** Whether the same request can succeed later. */
  get passing() {
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500;
  }
}

/** A response, or a Failure with the server's sentence. */
async function request(method, path, body, signal = AbortSignal.timeout(30_000)) {
  const options = { method, signal, cache: "no-store", headers: { "X-Segpref": "1" } };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure(0, "The server does not answer.");
  }
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  const sentence = typeof said.error === "string" ? said.error : `The server answered with an error (${response.status}).`;
  throw new Failure(response.status, sentence);
}

async function ask(method, path, body) {
  const response = await request(method, path, body);
  return response.status === 204 ? null : response.json();
}

/** 128 random bits as a UUID; crypto.randomUUID does not exist on plain HTTP. */
function newUuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** Does something until it succeeds or is refused for good; says what is wrong and when it is tried again. */
async function persist(action, title) {
  for (let attempt = 0; ; attempt += 1) {
    try {
      const answer = await action();
      hideNotice();
      return answer;
    } catch (failure) {
      if (!(failure instanceof Failure) || !failure.passing) throw failure;
      const wait = Math.min(15_000, 500 * 2 ** attempt);
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, wait);
        notify(title, `${failure.message} It is tried again by itself.`, "Try now", () => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
  }
}

/** What every failed request ends in. */
function giveUp(failure) {
  if (failure.status === 401) {
    const waiting = unstored().length > 0 ? " Your last answer is kept in this browser and will be stored then." : "";
    showMessage("Please open your personal link", `${failure.message}${waiting}`);
  } else {
    showMessage("Something went wrong", failure.message, "Try again", start);
  }
}

// ----------------------------------------------------------------------------------- answers that are not stored yet

const KEPT = "segpref-answer-";
const memory = new Map(); // for browsers that keep nothing

/** Answers of this rater that the server has not acknowledged, oldest first. */
function unstored() {
  const found = new Map(memory);
  try {
    for (const key of Object.keys(localStorage)) {
      if (key.startsWith(KEPT)) found.set(key.slice(KEPT.length), JSON.parse(localStorage.getItem(key)));
    }
  } catch {
    // Storage is switched off: what is in memory is all there is.
  }
  const own = [...found.values()].filter((kept) => !state.study || kept.rater === state.study.rater);
  return own.sort((a, b) => (a.body.voted_at < b.body.voted_at ? -1 : 1));
}

/** Opaque ids and the answer only: nothing of a patient is kept in the browser. */
function keep(kept) {
  memory.set(kept.body.uuid, kept);
  try {
    localStorage.setItem(KEPT + kept.body.uuid, JSON.stringify(kept));
  } catch {
    // In memory it is kept as long as this page is open.
  }
}

function forget(kept) {
  memory.delete(kept.body.uuid);
  try {
    localStorage.removeItem(KEPT + kept.body.uuid);
  } catch {
    // It was not there.
  }
}

/** Sends an answer until it is stored; where it is refused for good, that is said before the page goes on. */
async function store(kept) {
  try {
    const answer = await persist(() => ask("POST", "api/votes", kept.body), "Your answer is not stored yet.");
    forget(kept);
    return answer;
  } catch (failure) {
    if (!(failure instanceof Failure) || failure.status === 401) throw failure;
    forget(kept);
    await new Promise((resolve) => notify("Your answer was not stored.", failure.message, "Go on", resolve));
    hideNotice();
    return null;
  }
}

// ------------------------------------------------------------------------------------------------------------ slices

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
function plane(axis) {
  const [z, y, x] = state.task.image.shape;
  const [dz, dy, dx] = state.task.image.spacing_mm ?? [1, 1, 1];
  return {
    axial: { count: z, height: y, width: x, tall: dy, wide: dx },
    coronal: { count: y, height: z, width: x, tall: dz, wide: dx },
    sagittal: { count: x, height: z, width: y, tall: dz, wide: dy },
  }[axis];
}

/** Slices of the current assignment: those last used, up to a number of bytes. */
const cache = {
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
function nextDifference(axis, index) {
  const differing = state.task.slices[axis] ?? [];
  return differing.find((one) => one > index) ?? differing[0] ?? null;
}

/** Shows a slice in all panes as soon as its image and its masks are there; the last one asked for wins. */
async function goTo(axis, index) {
  const { task, view } = state;
  const bounded = Math.max(0, Math.min(plane(axis).count - 1, index));
  const step = axis === view.axis && bounded < view.index ? -1 : 1;
  if (axis !== view.axis) Object.assign(view, { panX: 0, panY: 0 });
  Object.assign(view, { axis, index: bounded });
  if (state.phase === "ready" || state.phase === "failed") setPhase("loading");
  updateSlicer();
  const isWanted = () => state.task === task && view.axis === axis && view.index === bounded;
  try {
    const [image, masks] = await Promise.all([cache.get("image", axis, bounded), cache.get("masks", axis, bounded)]);
    if (!isWanted()) return;
    const { height, width } = plane(axis);
    state.slice = { axis, index: bounded, height, width, image, masks };
    view.centre ?? Object.assign(view, startingWindow(image));
    redraw({ image: true, masks: true });
    cache.prefetch(axis, bounded, step);
  } catch (failure) {
    if (!isWanted()) return;
    if (failure.status === 401) return void giveUp(failure);
    setPhase("failed");
    const reason = failure instanceof Failure ? failure.message : "The server does not answer.";
    const text = `${reason} You can answer as soon as image and masks are shown.`;
    notify("This slice could not be loaded.", text, "Try again", () => {
      hideNotice();
      goTo(axis, bounded);
    });
  }
}

/** Where the image has no window: the range of its type, or of the first slice. */
function startingWindow(values) {
  if (values instanceof Uint8Array) return { centre: 127.5, width: 255 };
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return high > low ? { centre: (low + high) / 2, width: high - low } : { centre: high || 0, width: 1 };
}

// ----------------------------------------------------------------------------------------------------- native pixels

/** Canvases in native pixels, in a hidden part of the page. */
const layers = { image: layer("image"), difference: layer("difference"), masks: [0, 1, 2, 3].map((at) => layer(`mask-${at}`)) };
let contours = []; // for each side: [{ path, region, colour }], the structure asked about last
const bitmaps = new WeakMap(); // canvas -> { pixels, words }, kept while its size stays

function layer(name) {
  const canvas = document.createElement("canvas");
  canvas.dataset.layer = name;
  $("native").append(canvas);
  return canvas;
}

const opaque = ([red, green, blue]) => ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
const css = ([red, green, blue]) => `rgb(${red} ${green} ${blue})`;

/** The 32-bit pixels of a canvas of the slice's size, to be filled and put back. */
function pixelsOf(canvas, width, height) {
  let bitmap = bitmaps.get(canvas);
  if (!bitmap || canvas.width !== width || canvas.height !== height) {
    Object.assign(canvas, { width, height });
    const pixels = new ImageData(width, height);
    bitmap = { pixels, words: new Uint32Array(pixels.data.buffer) };
    bitmaps.set(canvas, bitmap);
  }
  return bitmap;
}

/** Grey level of a value, 0 to 255: linear within the window, rounded half up; not-a-number is black. */
function greyLevel(value, centre, width, inverted) {
  const share = (value - (centre - width / 2)) / width;
  const level = share > 0 ? Math.floor(Math.min(1, share) * 255 + 0.5) : 0;
  return inverted ? 255 - level : level;
}

/** Grey levels of every value of a type of up to 16 bits, at `value & mask`. */
function greyTable(type, centre, width, inverted) {
  const values = new type(2 ** (8 * type.BYTES_PER_ELEMENT));
  const mask = values.length - 1;
  const table = new Uint8Array(values.length);
  for (let at = 0; at <= mask; at += 1) {
    values[at] = at; // wraps round as the type does
    table[at] = greyLevel(values[at], centre, width, inverted);
  }
  return { table, mask };
}

/** Windows the image. Types of up to 16 bits go through a table, so that a change takes milliseconds. */
function paintImage() {
  const { image, width, height } = state.slice;
  const { centre, width: range } = state.view;
  const { channels, inverted } = state.task.image;
  const { pixels, words } = pixelsOf(layers.image, width, height);
  let level = (value) => greyLevel(value, centre, range, inverted);
  if (image.BYTES_PER_ELEMENT <= 2) {
    const { table, mask } = greyTable(image.constructor, centre, range, inverted);
    if (channels === 1) {
      const greys = Uint32Array.from(table, (grey) => 0xff000000 | (grey * 0x010101));
      for (let at = 0; at < words.length; at += 1) words[at] = greys[image[at] & mask];
      layers.image.getContext("2d").putImageData(pixels, 0, 0);
      return;
    }
    level = (value) => table[value & mask];
  }
  for (let at = 0; at < words.length; at += 1) {
    const first = at * channels;
    const red = level(image[first]);
    const green = channels === 1 ? red : level(image[first + 1]);
    const blue = channels === 1 ? red : level(image[first + 2]);
    words[at] = 0xff000000 | (blue << 16) | (green << 8) | red;
  }
  layers.image.getContext("2d").putImageData(pixels, 0, 0);
}

/** Structures on the screen, the one asked about first: { name, code, colour }. */
function shownStructures() {
  const { structures } = state.study;
  const all = structures.map((one, at) => ({ ...one, colour: COLOURS[at % COLOURS.length] }));
  const asked = all.filter((one) => one.name === state.task.structure);
  if (asked.length === 0) return all;
  return state.show.others ? [...asked, ...all.filter((one) => one.name !== state.task.structure)] : asked;
}

/** The structures whose disagreement is asked about: one, or all. */
function askedStructures() {
  return shownStructures().filter((one) => state.task.structure === null || one.name === state.task.structure);
}

/** Whether a value of a mask holds a structure: a class, or a bit. */
function holds(value, code) {
  return state.study.exclusive ? value === code : ((value >>> code) & 1) === 1;
}

/** Colours every mask, the structure asked about on top; and finds where the masks disagree about it. */
function paintMasks() {
  const { masks, width, height } = state.slice;
  const size = width * height;
  const structures = shownStructures();
  contours = [];
  for (let side = 0; side < state.task.sides; side += 1) {
    const values = masks.subarray(side * size, (side + 1) * size);
    const { pixels, words } = pixelsOf(layers.masks[side], width, height);
    words.fill(0);
    contours[side] = [];
    for (const { code, colour } of structures.toReversed()) {
      const word = opaque(colour);
      const inside = new Uint8Array(size);
      for (let at = 0; at < size; at += 1) {
        if (!holds(values[at], code)) continue;
        inside[at] = 1;
        words[at] = word;
      }
      const region = structures.length > 1 ? regionOf(inside, width, height) : null;
      contours[side].push({ path: contour(inside, width, height), region, colour: css(colour) });
    }
    layers.masks[side].getContext("2d").putImageData(pixels, 0, 0);
  }
  paintDifference(masks, width, height);
}

/** Where not all masks agree about the structures asked about. */
function paintDifference(masks, width, height) {
  const size = width * height;
  const codes = askedStructures().map((one) => one.code);
  const { pixels, words } = pixelsOf(layers.difference, width, height);
  words.fill(0);
  const word = opaque(DIFFERENCE);
  for (let side = 1; side < state.task.sides; side += 1) {
    for (let at = 0; at < size; at += 1) {
      const [first, other] = [masks[at], masks[side * size + at]];
      if (first !== other && codes.some((code) => holds(first, code) !== holds(other, code))) words[at] = word;
    }
  }
  layers.difference.getContext("2d").putImageData(pixels, 0, 0);
}

/** The pixels inside, in native pixels. */
function regionOf(inside, width, height) {
  const path = new Path2D();
  for (let row = 0; row < height; row += 1) {
    for (let from = 0; from < width; from += 1) {
      if (!inside[row * width + from]) continue;
      let to = from + 1;
      while (to < width && inside[row * width + to]) to += 1;
      path.rect(from, row, to - from, 1);
      from = to;
    }
  }
  return path;
}

/** Lines along the pixel edges between inside and outside, in native pixels. */
function contour(inside, width, height) {
  const path = new Path2D();
  const value = (row, column) =>
    row < 0 || column < 0 || row >= height || column >= width ? 0 : inside[row * width + column];
  const trace = (lines, along, edge, line) => {
    for (let at = 0; at <= lines; at += 1) {
      for (let from = 0; from < along; from += 1) {
        if (!edge(at, from)) continue;
        let to = from + 1;
        while (to < along && edge(at, to)) to += 1;
        line(at, from, to);
        from = to;
      }
    }
  };
  const horizontal = (row, column) => value(row - 1, column) !== value(row, column);
  const vertical = (column, row) => value(row, column - 1) !== value(row, column);
  trace(height, width, horizontal, (row, from, to) => {
    path.moveTo(from, row);
    path.lineTo(to, row);
  });
  trace(width, height, vertical, (column, from, to) => {
    path.moveTo(column, from);
    path.lineTo(column, to);
  });
  return path;
}

// ------------------------------------------------------------------------------------------------------------ screen

const panes = []; // { element, canvas, name, scale }
const base = document.createElement("canvas"); // the image as it lies on the screen, the same for every pane
let stale = { image: false, masks: false };
let scheduled = false;

/** Draws once before the next frame; image or masks are painted anew where they changed. */
function redraw({ image = false, masks = false } = {}) {
  stale = { image: stale.image || image, masks: stale.masks || masks };
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    if (state.page === "compare" && state.slice) draw();
  });
}

/** Scale (pane's pixels per native pixel) and top left corner of the drawn slice in a pane of some size. */
function placement(paneWidth, paneHeight) {
  const { zoom, panX, panY } = state.view;
  const { width, height, wide, tall } = plane(state.slice.axis);
  const fit = Math.min(paneWidth / (width * wide), paneHeight / (height * tall));
  const [scaleX, scaleY] = [fit * zoom * wide, fit * zoom * tall];
  return {
    scaleX,
    scaleY,
    left: paneWidth / 2 - (width / 2 + panX) * scaleX,
    top: paneHeight / 2 - (height / 2 + panY) * scaleY,
  };
}

/** Draws image, masks and contours on every pane, the same slice, window, zoom and place on each. */
function draw() {
  if (stale.image) paintImage();
  if (stale.masks) paintMasks();
  stale = { image: false, masks: false };
  const ratio = window.devicePixelRatio || 1;
  const [paneWidth, paneHeight] = [panes[0].canvas.clientWidth, panes[0].canvas.clientHeight];
  if (!paneWidth || !paneHeight) return;
  const [width, height] = [Math.round(paneWidth * ratio), Math.round(paneHeight * ratio)];
  const place = placement(width, height);
  const { axis, width: columns, height: rows } = state.slice;
  const box = [place.left, place.top, columns * place.scaleX, rows * place.scaleY];

  Object.assign(base, { width, height });
  const ground = base.getContext("2d");
  ground.fillStyle = "#000";
  ground.fillRect(0, 0, width, height);
  ground.imageSmoothingEnabled = state.show.smooth;
  ground.imageSmoothingQuality = "high";
  ground.drawImage(layers.image, ...box);

  panes.forEach((pane, at) => {
    const side = (at + state.turn) % panes.length;
    const hidden = !state.show.masks || (panes.length === 1 && state.turn % 2 === 1);
    if (pane.canvas.width !== width || pane.canvas.height !== height) Object.assign(pane.canvas, { width, height });
    const context = pane.canvas.getContext("2d");
    context.drawImage(base, 0, 0);
    context.imageSmoothingEnabled = false;
    if (!hidden) drawMask(context, side, box, place, ratio);
    describePane(pane, side, place, ratio);
  });
  afterDrawing(axis);
}

/** One mask: filled or as contours, and differences where asked for. */
function drawMask(context, side, box, place, ratio) {
  context.globalAlpha = state.show.opacity / 100;
  if (!state.show.outline) context.drawImage(layers.masks[side], ...box);
  context.globalAlpha = DIFFERENCE_OPACITY;
  if (state.show.differences) context.drawImage(layers.difference, ...box);
  context.globalAlpha = 1;
  if (!state.show.outline) return;
  const matrix = new DOMMatrix([place.scaleX, 0, 0, place.scaleY, place.left, place.top]);
  const onScreen = (path) => {
    const moved = new Path2D();
    moved.addPath(path, matrix);
    return moved;
  };
  context.lineCap = "square";
  for (const { path, region, colour } of contours[side]) {
    context.save();
    if (region) context.clip(onScreen(region)); // so that neighbours do not hide each other's line
    const lines = onScreen(path);
    const width = LINE_WIDTH * ratio * (region ? 2 : 1);
    context.lineWidth = width + 2 * ratio;
    context.strokeStyle = "rgb(0 0 0 / 45%)"; // so that a contour is seen on bright tissue, too
    context.stroke(lines);
    context.lineWidth = width;
    context.strokeStyle = colour;
    context.stroke(lines);
    context.restore();
  }
}

/** What a pane says of itself: to the eye, to screen readers, and to tests. */
function describePane(pane, side, place, ratio) {
  const { view, task } = state;
  const name = PLACES[panes.length][side];
  const where = task.image.axes === "picture" ? "" : `, ${state.slice.axis} slice ${state.slice.index + 1}`;
  pane.name.textContent = name;
  pane.element.classList.toggle("moved", state.turn % panes.length !== 0);
  pane.canvas.setAttribute("aria-label", `${name}${name === "Mask" ? "" : " mask"}${where}`);
  for (const [edge, element] of Object.entries(pane.letters)) {
    element.textContent = task.image.axes === "LPS" ? LETTERS[state.slice.axis][edge] : "";
  }
  Object.assign(pane.canvas.dataset, {
    axis: state.slice.axis,
    index: state.slice.index,
    centre: view.centre,
    width: view.width,
    zoom: view.zoom,
    scaleX: place.scaleX,
    scaleY: place.scaleY,
    left: place.left,
    top: place.top,
    side,
  });
  drawScale(pane.scale, place.scaleX / ratio);
}

/** A bar of 1, 2 or 5 times a power of ten mm, at most a quarter of the pane wide; none where sizes are unknown. */
function drawScale(bar, pixelsPerColumn) {
  bar.hidden = state.task.image.spacing_mm === null;
  if (bar.hidden) return;
  const perMm = pixelsPerColumn / plane(state.slice.axis).wide;
  const most = panes[0].canvas.clientWidth / 4 / perMm;
  const power = 10 ** Math.floor(Math.log10(most));
  const length = [5, 2, 1].map((digit) => digit * power).find((one) => one <= most) ?? power;
  bar.style.width = `${length * perMm}px`;
  bar.dataset.mm = String(Number(length.toPrecision(1)));
  bar.textContent = `${Number(length.toPrecision(1))} mm`;
}

/** Once everything asked for is on the screen, it counts as seen and the rater may answer. */
function afterDrawing(axis) {
  const { slice, view } = state;
  if (slice.axis !== view.axis || slice.index !== view.index) return;
  (state.seen[axis] ??= new Set()).add(slice.index);
  if (state.phase !== "loading") return;
  state.shownSince ??= performance.now();
  hideNotice();
  setPhase("ready");
}

/** One pane for each mask of an assignment. */
function buildPanes(sides) {
  panes.length = 0;
  $("panes").replaceChildren();
  $("panes").dataset.sides = sides;
  for (let at = 0; at < sides; at += 1) {
    const element = make("div", "pane");
    const canvas = make("canvas");
    canvas.setAttribute("role", "img");
    const name = make("span", "name");
    const scale = make("span", "scale");
    element.append(canvas, name, scale);
    const letters = {};
    for (const edge of ["top", "bottom", "left", "right"]) {
      letters[edge] = make("span", `letter ${edge}`);
      letters[edge].setAttribute("aria-hidden", "true");
      element.append(letters[edge]);
    }
    panes.push({ element, canvas, name, scale, letters });
    $("panes").append(element);
  }
}

/** An element with a class and text; text never becomes markup. */
function make(tag, className = "", text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

// -------------------------------------------------------------------------------------------------------------- view

function updateSlicer() {
  const { view, task } = state;
  const { count } = plane(view.axis);
  $("slicer").hidden = count === 1 && Math.max(...task.image.shape.slice(0, 1)) === 1;
  Object.assign($("slice"), { max: count - 1, value: view.index });
  const text = `${view.index + 1} / ${count}`;
  $("slice-text").textContent = text;
  $("slice").setAttribute("aria-valuetext", `${view.axis} slice ${text}`);
  for (const button of $("planes").children) {
    button.setAttribute("aria-pressed", String(button.dataset.axis === view.axis));
  }
  drawTicks(count);
}

/** Marks above the slider where the masks differ. */
function drawTicks(count) {
  const canvas = $("ticks");
  const ratio = window.devicePixelRatio || 1;
  Object.assign(canvas, { width: canvas.clientWidth * ratio, height: canvas.clientHeight * ratio });
  const context = canvas.getContext("2d");
  context.fillStyle = css(DIFFERENCE);
  const thumb = 18 * ratio;
  const mark = Math.max(2 * ratio, Math.min(6 * ratio, (canvas.width - thumb) / count - ratio));
  for (const index of state.task.slices[state.view.axis] ?? []) {
    const x = thumb / 2 + (index / Math.max(1, count - 1)) * (canvas.width - thumb);
    context.fillRect(x - mark / 2, 0, mark, canvas.height);
  }
}

function step(by) {
  goTo(state.view.axis, state.view.index + by);
}

function showNextDifference() {
  const index = nextDifference(state.view.axis, state.view.index);
  if (index !== null) return void goTo(state.view.axis, index);
  say("The masks do not differ along this plane.");
}

/** The next plane, at the first slice that differs or in the middle. */
function showPlane(axis) {
  const differing = state.task.slices[axis] ?? [];
  const middle = differing[Math.floor(differing.length / 2)] ?? Math.floor(plane(axis).count / 2);
  goTo(axis, middle);
}

function toggle(name) {
  state.show[name] = !state.show[name];
  updateTools();
  redraw({ masks: name === "others" });
}

function setOpacity(percent) {
  state.show.opacity = Math.max(10, Math.min(100, percent));
  updateTools();
  redraw();
}

/** Widens the window by a factor and moves its centre by a share of its width. */
function changeWindow(factor, shift) {
  const { view } = state;
  if (view.centre === null) return;
  view.centre -= shift * view.width * (state.task.image.inverted ? -1 : 1);
  view.width = Math.max(view.width * factor, 1e-6);
  redraw({ image: true });
}

/** Zooms so that the native point under (x, y), given from the middle of a pane in CSS pixels, stays where it is. */
function zoomBy(factor, x = 0, y = 0) {
  const { view } = state;
  if (!state.slice) return;
  const zoom = Math.max(1, Math.min(40, view.zoom * factor));
  const before = screenScale();
  view.panX += (x / before.x) * (1 - view.zoom / zoom);
  view.panY += (y / before.y) * (1 - view.zoom / zoom);
  view.zoom = zoom;
  panBy(0, 0);
}

/** CSS pixels per native pixel. */
function screenScale() {
  const { clientWidth, clientHeight } = panes[0].canvas;
  const place = placement(clientWidth, clientHeight);
  return { x: place.scaleX, y: place.scaleY };
}

/** Moves the image by CSS pixels; its middle stays within reach. */
function panBy(x, y) {
  const { view } = state;
  if (!state.slice) return;
  const scale = screenScale();
  const { width, height } = state.slice;
  const slack = view.zoom > 1 ? 0.5 : 0;
  view.panX = Math.max(-width * slack, Math.min(width * slack, view.panX - x / scale.x));
  view.panY = Math.max(-height * slack, Math.min(height * slack, view.panY - y / scale.y));
  redraw();
}

/** The image's own window; colour as it is. */
function ownWindow(image) {
  return image.window ? { centre: image.window[0], width: image.window[1] } : { centre: null, width: null };
}

function resetView() {
  Object.assign(state.view, ownWindow(state.task.image), { zoom: 1, panX: 0, panY: 0 });
  if (state.slice && state.view.centre === null) Object.assign(state.view, startingWindow(state.slice.image));
  redraw({ image: true });
}

let flicker = null;

/** While held, the masks change places (a single mask comes and goes). */
function startFlicker() {
  if (flicker !== null || state.page !== "compare") return;
  const turn = () => {
    state.turn += 1;
    redraw();
  };
  turn();
  flicker = setInterval(turn, FLICKER_MS);
  $("flicker").classList.add("held");
}

function stopFlicker() {
  if (flicker === null) return;
  clearInterval(flicker);
  flicker = null;
  state.turn = 0;
  $("flicker").classList.remove("held");
  redraw();
}

/** Buttons and legend as the display is. */
function updateTools() {
  for (const name of ["masks", "outline", "differences", "others"]) {
    $(name).setAttribute("aria-pressed", String(state.show[name]));
  }
  $("opacity").value = state.show.opacity;
  const several = state.study.structures.length > 1 && state.task.structure !== null;
  $("others").hidden = !several;
  $("differences").hidden = state.task.sides === 1;
  const chips = shownStructures().map(({ name, colour }) => {
    const chip = make("span", "chip", name);
    const dot = make("i");
    dot.style.background = css(colour);
    chip.prepend(dot);
    chip.classList.toggle("asked", name === state.task.structure);
    return chip;
  });
  if (state.show.differences && state.task.sides > 1) {
    const chip = make("span", "chip", "differences");
    const dot = make("i");
    dot.style.background = css(DIFFERENCE);
    chip.prepend(dot);
    chips.push(chip);
  }
  $("legend").replaceChildren(...chips);
}

// ----------------------------------------------------------------------------------------------------------- answers

/** Where an assignment stands; answers are open in one phase only. */
function setPhase(phase) {
  state.phase = phase;
  $("compare").dataset.phase = phase;
  for (const button of $("choices").children) button.disabled = phase !== "ready";
  $("undo").disabled = !state.canUndo || !["ready", "failed", "loading", "feedback"].includes(phase);
  $("panes").setAttribute("aria-busy", String(phase === "loading"));
}

function setSure(sure) {
  state.sure = state.sure === sure ? null : sure;
  for (const button of $("sure").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.sure) === state.sure));
  }
}

/** What is sent of an answer. */
function answerBody(choice) {
  const { task, view } = state;
  const shown = state.shownMs + (state.shownSince === null ? 0 : performance.now() - state.shownSince);
  return {
    uuid: newUuid(),
    assignment: task.assignment,
    choice,
    confidence: state.sure,
    shown_ms: Math.round(shown),
    slices_seen: Object.fromEntries(
      Object.entries(state.seen).map(([axis, seen]) => [axis, [...seen].sort((a, b) => a - b)]),
    ),
    window: [view.centre, view.width],
    voted_at: new Date().toISOString(),
  };
}

/** Stores an answer, then shows what comes next; after a practice pair, what would have been right. */
async function answer(choice) {
  if (state.phase !== "ready") return;
  const { task } = state;
  setPhase("sending");
  say("Storing…");
  for (const button of $("choices").children) button.classList.toggle("chosen", button.dataset.choice === choice);
  const kept = { rater: state.study.rater, body: answerBody(choice) };
  keep(kept);
  try {
    const stored = await store(kept);
    if (stored) {
      updateProgress(stored.progress);
      state.canUndo = true;
      say("Stored.");
      if (task.practice) await giveFeedback(task);
    }
    await next();
  } catch (failure) {
    giveUp(failure);
  }
}

/** Says whether a practice answer was right, and why; goes on when the rater does. */
async function giveFeedback(task) {
  const path = `api/practice/${encodeURIComponent(task.assignment)}/answer`;
  const right = await persist(() => ask("GET", path), "The right answer could not be loaded.");
  const words = CHOICES[task.mode].find(([choice]) => choice === right.choice)?.[3];
  const text = [right.correct || !words ? "" : `Correct answer: ${words}.`, right.why ?? ""];
  setPhase("feedback");
  for (const button of $("choices").children) {
    button.classList.toggle("right", button.dataset.choice === right.choice);
  }
  await new Promise((resolve) => {
    notify(right.correct ? "Correct." : "Not quite.", text.join(" ").trim(), "Go on", resolve);
    $("notice").classList.add(right.correct ? "good" : "other");
    leaveFeedback = resolve;
  });
  leaveFeedback = null;
  hideNotice();
}

let leaveFeedback = null;

/** Takes the last answer back and shows what it was about. */
async function undo() {
  if (!state.canUndo || state.phase === "sending") return;
  const wasFeedback = leaveFeedback;
  state.canUndo = false;
  setPhase("sending");
  say("Taking your last answer back…");
  const uuid = newUuid();
  try {
    const task = await persist(() => ask("POST", "api/undo", { uuid }), "Your last answer is not taken back yet.");
    show(task);
    say("Your last answer was taken back.");
  } catch (failure) {
    if (failure.status === 401 || wasFeedback) return void giveUp(failure);
    say(failure.message);
    if (state.page === "compare") await next();
  }
}

async function next() {
  show(await persist(() => ask("POST", "api/next", {}), "The next images could not be loaded."));
}

// ------------------------------------------------------------------------------------------------------------- pages

function showPage(name) {
  state.page = name;
  for (const page of document.querySelectorAll("main")) page.hidden = page.id !== name;
  stopFlicker();
}

/** A page with nothing but a message. */
function showMessage(title, text, button = "", action = null) {
  hideNotice();
  $("message-title").textContent = title;
  $("message-text").textContent = text;
  $("message-button").hidden = !action;
  $("message-button").textContent = button;
  $("message-button").onclick = action;
  showPage("message");
}

let noticeAction = null;

/** A message over the panes with one thing to do about it (Enter does it). */
function notify(title, text, button, action) {
  $("notice").classList.remove("good", "other");
  $("notice-title").textContent = title;
  $("notice-text").textContent = text;
  $("notice-button").replaceChildren(`${button} `, make("kbd", "", "Enter"));
  noticeAction = action;
  $("notice").hidden = false;
  if (state.page !== "compare") showMessage(title, text, button, action);
}

function hideNotice() {
  $("notice").hidden = true;
  noticeAction = null;
}

/** A short message, also read out by screen readers. */
function say(text) {
  $("status").textContent = text;
}

function updateProgress({ done, total, practice_left: practiceLeft = 0 }) {
  const practising = practiceLeft > 0 ? ` · ${practiceLeft} for practice` : "";
  $("progress-text").textContent = `${done} of ${total}${practising}`;
  Object.assign($("progress"), { max: Math.max(1, total), value: done });
}

function showWelcome() {
  const { study } = state;
  const { done, total, practice_left: practiceLeft = 0 } = study.progress;
  document.title = study.title || "Comparing masks";
  $("title").textContent = study.title;
  $("welcome-question").textContent = study.question;
  $("instructions").textContent = study.instructions ?? "";
  $("how").textContent = HOW[study.mode];
  $("practice-note").hidden = practiceLeft === 0;
  const pairs = practiceLeft === 1 ? "One practice question comes" : `${practiceLeft} practice questions come`;
  $("practice-note").textContent = `${pairs} first. You see the correct answer at once; practice answers do not count.`;
  $("welcome-progress").textContent = done > 0 ? `${done} of ${total} done. Welcome back, ${study.rater}.` : study.rater;
  showPage("welcome");
  $("begin").focus();
}

function showDone() {
  const { done, total } = state.study.progress;
  $("done-text").textContent = `Nothing is left to answer for now: ${done} of ${total} done. Every answer is stored.`;
  $("done-undo").hidden = !state.canUndo;
  showPage("done");
  $("done-again").focus();
}

/** Shows an assignment, or that there is none. */
function show(task) {
  cache.clear();
  state.canUndo = Boolean(task.can_undo);
  if (task.progress) {
    state.study.progress = task.progress;
    updateProgress(task.progress);
  }
  if (task.done) return void showDone();
  Object.assign(state, { task, slice: null, seen: {}, shownMs: 0, shownSince: null, sure: null, turn: 0 });
  state.view = { ...task.start, ...ownWindow(task.image), zoom: 1, panX: 0, panY: 0 };
  Object.assign(state.show, { masks: true, differences: false, others: false });
  showPage("compare");
  $("question").textContent = state.study.question;
  $("practice").hidden = !task.practice;
  buildPanes(task.sides);
  buildChoices(task.mode);
  buildPlanes(task.image.shape[0] > 1 ? AXES : ["axial"]);
  setSure(null);
  say("");
  hideNotice();
  setPhase("loading");
  updateTools();
  $("panes").focus();
  goTo(task.start.axis, task.start.index);
}

function buildChoices(mode) {
  const buttons = CHOICES[mode].map(([choice, , key, words]) => {
    const button = make("button", "", "");
    button.append(make("kbd", "", key), ` ${words}`);
    button.dataset.choice = choice;
    button.onclick = () => answer(choice);
    return button;
  });
  $("choices").dataset.mode = mode;
  $("choices").replaceChildren(...buttons);
}

function buildPlanes(axes) {
  const buttons = axes.map((axis) => {
    const button = make("button", "", axis[0].toUpperCase() + axis.slice(1));
    button.dataset.axis = axis;
    button.onclick = () => showPlane(axis);
    return button;
  });
  $("planes").replaceChildren(...buttons);
  $("planes").hidden = axes.length === 1;
}

// -------------------------------------------------------------------------------------------------------------- keys

/** Keys of the display: as the browser names them, as the screen shows them, words, what they do. */
const KEYS = [
  [["arrowup"], "↑", "next slice", () => step(1), true],
  [["arrowdown"], "↓", "previous slice", () => step(-1), true],
  [["n"], "N", "next slice on which the masks differ", showNextDifference],
  [["p"], "P", "next plane", () => showPlane(otherPlane())],
  [["m"], "M", "masks on or off", () => toggle("masks")],
  [["o"], "O", "outline or fill", () => toggle("outline")],
  [["<"], "<", "fainter", () => setOpacity(state.show.opacity - 10), true],
  [[">"], ">", "stronger", () => setOpacity(state.show.opacity + 10), true],
  [["d"], "D", "highlight where the masks differ", () => toggle("differences")],
  [["t"], "T", "the other structures", () => toggle("others")],
  [["i"], "I", "image smooth or in pixels", () => toggle("smooth")],
  [["["], "[", "more contrast", () => changeWindow(1 / 1.15, 0), true],
  [["]"], "]", "less contrast", () => changeWindow(1.15, 0), true],
  [[","], ",", "darker", () => changeWindow(1, -0.05), true],
  [["."], ".", "brighter", () => changeWindow(1, 0.05), true],
  [["+"], "+", "zoom in", () => zoomBy(1.25), true],
  [["-"], "−", "zoom out", () => zoomBy(0.8), true],
  [["0"], "0", "zoom and window as at first", resetView],
  [["shift+arrowleft"], "Shift ←", "move the image", () => panBy(40, 0), true],
  [["shift+arrowright"], "Shift →", "", () => panBy(-40, 0), true],
  [["shift+arrowup"], "Shift ↑", "", () => panBy(0, 40), true],
  [["shift+arrowdown"], "Shift ↓", "", () => panBy(0, -40), true],
  [["1"], "1", "unsure (before you answer)", () => setSure(1)],
  [["2"], "2", "fairly sure", () => setSure(2)],
  [["3"], "3", "sure", () => setSure(3)],
  [["z"], "Z", "take the last answer back", undo],
  [["?"], "?", "these keys", openKeys],
];

function otherPlane() {
  const axes = [...$("planes").children].map((button) => button.dataset.axis);
  return axes[(axes.indexOf(state.view.axis) + 1) % axes.length];
}

function openKeys() {
  const mode = state.task?.mode ?? state.study?.mode ?? "pair";
  const answers = CHOICES[mode].map(([, , key, words]) => [key, words]);
  const held = ["Space", "held: the masks alternate in place"];
  const others = KEYS.filter(([, , words]) => words).map(([, key, words]) => [key, words]);
  const list = [...answers, held, ...others].map(([key, words]) => {
    const row = make("div");
    const term = make("dt");
    term.append(make("kbd", "", key));
    row.append(term, make("dd", "", words));
    return row;
  });
  $("key-list").replaceChildren(...list);
  $("keys").showModal();
}

/** The name by which KEYS and CHOICES know a key. */
function keyName(event) {
  const key = event.key.toLowerCase();
  return event.shiftKey && key.startsWith("arrow") ? `shift+${key}` : key;
}

/** Space flickers everywhere, so that it never presses a button by accident; Enter does. */
function onKeyDown(event) {
  const typed = event.getModifierState("AltGraph"); // brackets on many keyboards
  if ($("keys").open || ((event.ctrlKey || event.metaKey || event.altKey) && !typed)) return;
  if (event.key === "Enter") return void onEnter(event);
  if (state.page === "done" && keyName(event) === "z" && !event.repeat) return void undo();
  if (event.key === "?" && state.study) return void openKeys();
  if (state.page !== "compare") return;
  if (event.key === " ") {
    event.preventDefault();
    if (!event.repeat) startFlicker();
    return;
  }
  if (event.key === "Escape") return void $("panes").focus();
  if (event.target.matches("input[type=range]") && /^(Arrow|Page|Home|End)/.test(event.key)) return;
  const name = keyName(event);
  const choice = CHOICES[state.task.mode].find(([, key]) => key === name)?.[0];
  if (choice) {
    event.preventDefault();
    if (!event.repeat) answer(choice);
    return;
  }
  const [, , , action, repeats] = KEYS.find(([keys]) => keys.includes(name)) ?? [];
  if (!action) return;
  event.preventDefault();
  if (repeats || !event.repeat) action();
}

/** Enter does what a notice asks, unless a button has the focus. */
function onEnter(event) {
  if (event.repeat) return void event.preventDefault();
  if (event.target.matches("button") || !noticeAction) return;
  event.preventDefault();
  noticeAction();
}

// ----------------------------------------------------------------------------------------------------------- pointer

const touches = new Map(); // pointerId -> last position
let scrolled = 0;

function onPointerDown(event) {
  if (!event.target.closest(".pane")) return;
  $("panes").setPointerCapture(event.pointerId);
  touches.set(event.pointerId, { x: event.clientX, y: event.clientY, button: event.button });
  scrolled = 0;
}

/** Mouse: left moves, right sets the window. Touch: one finger scrolls or moves, two zoom and move. */
function onPointerMove(event) {
  const last = touches.get(event.pointerId);
  if (!last || !state.slice) return;
  const [dx, dy] = [event.clientX - last.x, event.clientY - last.y];
  const others = [...touches].filter(([id]) => id !== event.pointerId).map(([, one]) => one);
  if (others.length > 0) {
    const [other] = others;
    const distance = (point) => Math.hypot(point.x - other.x, point.y - other.y) || 1;
    zoomBy(distance({ x: event.clientX, y: event.clientY }) / distance(last));
    panBy(dx / 2, dy / 2);
  } else if (last.button === 2) {
    changeWindow(2 ** (dx / 200), -dy / 400);
  } else if (event.pointerType === "touch" && state.view.zoom === 1) {
    scrolled += dy;
    const slices = Math.trunc(scrolled / 14);
    scrolled -= slices * 14;
    if (slices !== 0) step(slices);
  } else {
    panBy(dx, dy);
  }
  Object.assign(last, { x: event.clientX, y: event.clientY });
}

function onPointerUp(event) {
  touches.delete(event.pointerId);
}

function onWheel(event) {
  event.preventDefault();
  if (!state.slice || event.deltaY === 0) return;
  const count = plane(state.view.axis).count;
  if (!event.ctrlKey && count > 1) return void step(event.deltaY > 0 ? -1 : 1);
  const box = event.target.getBoundingClientRect();
  const [x, y] = [event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2];
  zoomBy(event.deltaY > 0 ? 0.87 : 1.15, x, y);
}

// ------------------------------------------------------------------------------------------------------------- start

/** Exchanges the token of a personal link for a cookie, and removes it from the address bar. */
async function enter() {
  const token = decodeURIComponent(location.hash.slice(1));
  history.replaceState(null, "", location.pathname + location.search);
  if (token) await persist(() => ask("POST", "api/enter", { token }), "The page could not be opened.");
}

/** Opens the study: answers that an earlier visit could not store go first. */
async function start() {
  showMessage("One moment", "The page is being opened.");
  try {
    await enter();
    state.study = await persist(() => ask("GET", "api/study"), "The page could not be opened.");
    for (const kept of unstored()) await store(kept);
    state.study = await ask("GET", "api/study");
    updateProgress(state.study.progress);
    showWelcome();
  } catch (failure) {
    giveUp(failure);
  }
}

async function begin() {
  $("begin").disabled = true;
  try {
    await next();
  } catch (failure) {
    giveUp(failure);
  }
  $("begin").disabled = false;
}

function listen() {
  const press = {
    begin,
    "done-again": begin,
    "done-undo": undo,
    undo,
    help: openKeys,
    "keys-close": () => $("keys").close(),
    "notice-button": () => noticeAction?.(),
    "slice-down": () => step(-1),
    "slice-up": () => step(1),
    "next-difference": showNextDifference,
    narrower: () => changeWindow(1 / 1.15, 0),
    wider: () => changeWindow(1.15, 0),
    darker: () => changeWindow(1, -0.05),
    brighter: () => changeWindow(1, 0.05),
    "zoom-in": () => zoomBy(1.25),
    "zoom-out": () => zoomBy(0.8),
    reset: resetView,
  };
  for (const name of ["masks", "outline", "differences", "others"]) press[name] = () => toggle(name);
  for (const [id, action] of Object.entries(press)) $(id).addEventListener("click", () => action());
  for (const button of $("sure").querySelectorAll("button")) {
    button.addEventListener("click", () => setSure(Number(button.dataset.sure)));
  }
  $("slice").addEventListener("input", () => goTo(state.view.axis, Number($("slice").value)));
  $("opacity").addEventListener("input", () => setOpacity(Number($("opacity").value)));
  $("flicker").addEventListener("pointerdown", startFlicker);
  for (const name of ["pointerup", "pointerleave", "pointercancel"]) $("flicker").addEventListener(name, stopFlicker);

  // What was pressed or moved with a pointer does not keep the focus: the next key is meant for the images.
  for (const name of ["pointerup", "change"]) {
    $("compare").addEventListener(name, (event) => event.target.matches(":focus") || $("keys").open || focusPanes());
  }
  $("compare").addEventListener("click", (event) => event.detail > 0 && !$("keys").open && focusPanes());

  document.addEventListener("keydown", onKeyDown);
  document.addEventListener("keyup", (event) => event.key === " " && stopFlicker());
  window.addEventListener("blur", stopFlicker);
  window.addEventListener("hashchange", () => location.hash.length > 1 && start());
  window.addEventListener("beforeunload", (event) => state.phase === "sending" && event.preventDefault());
  document.addEventListener("visibilitychange", countVisibleTime);

  const area = $("panes");
  area.addEventListener("pointerdown", onPointerDown);
  area.addEventListener("pointermove", onPointerMove);
  for (const name of ["pointerup", "pointercancel"]) area.addEventListener(name, onPointerUp);
  area.addEventListener("wheel", onWheel, { passive: false });
  area.addEventListener("dblclick", resetView);
  area.addEventListener("contextmenu", (event) => event.preventDefault());
  new ResizeObserver(() => state.page === "compare" && state.task && (updateSlicer(), redraw())).observe(area);
}

function focusPanes() {
  if (state.page === "compare") $("panes").focus();
}

/** Time in which the page is not visible is not time in which masks were shown. */
function countVisibleTime() {
  if (state.shownSince === null && state.shownMs === 0) return;
  if (document.hidden) {
    state.shownMs += performance.now() - state.shownSince;
    state.shownSince = null;
  } else if (state.slice) {
    state.shownSince = performance.now();
  }
}

listen();
start();
