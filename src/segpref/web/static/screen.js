/** From native pixels to the screen: the same slice, window, zoom and place in every pane. */

import { contours, layers, paintImage, paintMasks } from "./pixels.js";
import { plane } from "./slices.js";
import { $, make, state } from "./state.js";

const LINE_WIDTH = 2; // of contours, in CSS pixels
const DIFFERENCE_OPACITY = 0.75;
const FLICKER_MS = 400; // slower than three flashes per second
const PLACES = {
  1: ["Mask"],
  2: ["Left", "Right"],
  4: ["Q · top left", "W · top right", "A · bottom left", "S · bottom right"],
};
const LETTERS = {
  axial: { top: "A", bottom: "P", left: "R", right: "L" },
  coronal: { top: "S", bottom: "I", left: "R", right: "L" },
  sagittal: { top: "S", bottom: "I", left: "A", right: "P" },
};

export const panes = []; // { element, canvas, name, scale }
const base = document.createElement("canvas"); // the image as it lies on the screen, the same for every pane
let stale = { image: false, masks: false };
let scheduled = false;
let drawn = () => {};

/** What is done each time that the slice asked for has been drawn. */
export function whenDrawn(action) {
  drawn = action;
}

/** Draws once before the next frame; image or masks are painted anew where they changed. */
export function redraw({ image = false, masks = false } = {}) {
  stale = { image: stale.image || image, masks: stale.masks || masks };
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    if (state.page === "compare" && state.slice) draw();
  });
}

/** Scale (pane's pixels per native pixel) and top left corner of the drawn slice in a pane of some size. */
export function placement(paneWidth, paneHeight) {
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
  const { width: columns, height: rows } = state.slice;
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
  if (state.slice.axis === state.view.axis && state.slice.index === state.view.index) drawn();
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

/** One pane for each mask of an assignment. */
export function buildPanes(sides) {
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

let flicker = null;

/** While held, the masks change places (a single mask comes and goes). */
export function startFlicker() {
  if (flicker !== null || state.page !== "compare") return;
  const turn = () => {
    state.turn += 1;
    redraw();
  };
  turn();
  flicker = setInterval(turn, FLICKER_MS);
  $("flicker").classList.add("held");
}

export function stopFlicker() {
  if (flicker === null) return;
  clearInterval(flicker);
  flicker = null;
  state.turn = 0;
  $("flicker").classList.remove("held");
  redraw();
}
