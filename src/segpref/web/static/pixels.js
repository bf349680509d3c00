/** From values to colours: image, masks and differences on canvases in native pixels; contours as paths. */

import { $, state } from "./state.js";

/** Okabe and Ito's colours, told apart by colour-blind people too; yellow is kept for differences. */
const COLOURS = [
  [86, 180, 233],
  [230, 159, 0],
  [0, 158, 115],
  [204, 121, 167],
  [213, 94, 0],
  [0, 114, 178],
];
export const DIFFERENCE = [240, 228, 66];

/** Structures on the screen, the one asked about first: { name, code, colour }. */
export function shownStructures() {
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

/** Canvases in native pixels, in a hidden part of the page. */
export const layers = {
  image: layer("image"),
  difference: layer("difference"),
  masks: [0, 1, 2, 3].map((side) => layer(`mask-${side}`)),
};

export const contours = []; // for each side: [{ path, region, colour }], the structure asked about last
const bitmaps = new WeakMap(); // canvas -> { pixels, words }, kept while its size stays

function layer(name) {
  const canvas = document.createElement("canvas");
  canvas.dataset.layer = name;
  $("native").append(canvas);
  return canvas;
}

const opaque = ([red, green, blue]) => ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
export const css = ([red, green, blue]) => `rgb(${red} ${green} ${blue})`;

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
export function paintImage() {
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

/** Whether a value of a mask holds a structure: a class, or a bit. */
function holds(value, code) {
  return state.study.exclusive ? value === code : ((value >>> code) & 1) === 1;
}

/** Colours every mask, the structure asked about on top; and finds where the masks disagree about it. */
export function paintMasks() {
  const { masks, width, height } = state.slice;
  const size = width * height;
  const structures = shownStructures();
  contours.length = 0;
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
