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

/** A structure is in a value of a mask where `(value & bits) === wanted`: its class, or its own bit. */
function testOf(code) {
  return state.study.exclusive ? { bits: 0xff, wanted: code } : { bits: 1 << code, wanted: 1 << code };
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
      const inside = paintStructure(values, code, opaque(colour), words, width, height);
      const region = structures.length > 1 ? regionOf(inside, width, height) : null;
      contours[side].push({ path: contour(inside, width, height), region, colour: css(colour) });
    }
    layers.masks[side].getContext("2d").putImageData(pixels, 0, 0);
  }
  paintDifference(masks, width, height);
}

/** Colours one structure; returns where it is, as 0 and 1 with a margin of one pixel outside the slice. */
function paintStructure(values, code, word, words, width, height) {
  const { bits, wanted } = testOf(code);
  const inside = new Uint8Array((width + 2) * (height + 2));
  for (let row = 0, at = 0; row < height; row += 1) {
    let place = (row + 1) * (width + 2) + 1;
    for (let column = 0; column < width; column += 1, at += 1, place += 1) {
      if ((values[at] & bits) !== wanted) continue;
      inside[place] = 1;
      words[at] = word;
    }
  }
  return inside;
}

/** Where not all masks agree about the structures asked about. */
function paintDifference(masks, width, height) {
  const size = width * height;
  const tests = askedStructures().map(({ code }) => testOf(code));
  const { pixels, words } = pixelsOf(layers.difference, width, height);
  words.fill(0);
  const word = opaque(DIFFERENCE);
  for (let side = 1; side < state.task.sides; side += 1) {
    for (let at = 0, other = side * size; at < size; at += 1, other += 1) {
      if (masks[at] === masks[other]) continue;
      for (const { bits, wanted } of tests) {
        if (((masks[at] & bits) === wanted) !== ((masks[other] & bits) === wanted)) words[at] = word;
      }
    }
  }
  layers.difference.getContext("2d").putImageData(pixels, 0, 0);
}

/** The pixels inside, in native pixels. */
function regionOf(inside, width, height) {
  const path = new Path2D();
  for (let row = 0; row < height; row += 1) {
    const first = (row + 1) * (width + 2) + 1;
    for (let from = 0; from < width; from += 1) {
      if (!inside[first + from]) continue;
      let to = from + 1;
      while (inside[first + to]) to += 1; // as far as the margin
      path.rect(from, row, to - from, 1);
      from = to;
    }
  }
  return path;
}

/** Lines along the pixel edges between inside and outside, in native pixels. */
function contour(inside, width, height) {
  const path = new Path2D();
  const line = (x, y, toX, toY) => {
    path.moveTo(x, y);
    path.lineTo(toX, toY);
  };
  const stride = width + 2;
  const starts = new Int32Array(width + 1).fill(-1); // of the vertical line left of each column, where there is one
  for (let row = 0; row <= height; row += 1) {
    let start = -1; // of the horizontal line above this row
    for (let column = 0, place = (row + 1) * stride + 1; column <= width; column += 1, place += 1) {
      const here = inside[place];
      const above = here !== inside[place - stride];
      if (above && start < 0) start = column;
      else if (!above && start >= 0) {
        line(start, row, column, row);
        start = -1;
      }
      const before = here !== inside[place - 1];
      if (before && starts[column] < 0) starts[column] = row;
      else if (!before && starts[column] >= 0) {
        line(column, starts[column], column, row);
        starts[column] = -1;
      }
    }
  }
  return path;
}
