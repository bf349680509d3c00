/** Which slice is shown, and how: one view for all panes. */

import { giveUp, hideNotice, notify, say, setPhase } from "./messages.js";
import { css, DIFFERENCE, shownStructures } from "./pixels.js";
import { panes, placement, redraw } from "./screen.js";
import { Failure } from "./server.js";
import { cache, nextDifference, plane } from "./slices.js";
import { $, make, state } from "./state.js";

/** Shows a slice in all panes as soon as its image and its masks are there; the last one asked for wins. */
export async function goTo(axis, index) {
  const { task, view } = state;
  const bounded = Math.max(0, Math.min(plane(axis).count - 1, index));
  const drawn = state.slice?.axis === axis && state.slice.index === bounded;
  if (state.phase === "ready" && drawn && axis === view.axis && bounded === view.index) return;
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

export function updateSlicer() {
  const { view, task } = state;
  const { count } = plane(view.axis);
  $("slicer").hidden = task.image.shape.includes(1);
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

export function step(by) {
  goTo(state.view.axis, state.view.index + by);
}

export function showNextDifference() {
  const index = nextDifference(state.view.axis, state.view.index);
  if (index !== null) return void goTo(state.view.axis, index);
  say("The masks do not differ along this plane.");
}

/** The next plane, at the first slice that differs or in the middle. */
export function showPlane(axis) {
  const differing = state.task.slices[axis] ?? [];
  const middle = differing[Math.floor(differing.length / 2)] ?? Math.floor(plane(axis).count / 2);
  goTo(axis, middle);
}

export function toggle(name) {
  state.show[name] = !state.show[name];
  updateTools();
  redraw({ masks: name === "others" });
}

export function setOpacity(percent) {
  state.show.opacity = Math.max(10, Math.min(100, percent));
  updateTools();
  redraw();
}

/** Widens the window by a factor and moves its centre by a share of its width. */
export function changeWindow(factor, shift) {
  const { view } = state;
  if (view.centre === null) return;
  view.centre -= shift * view.width * (state.task.image.inverted ? -1 : 1);
  view.width = Math.max(view.width * factor, 1e-6);
  redraw({ image: true });
}

/** Zooms so that the native point under (x, y), given from the middle of a pane in CSS pixels, stays where it is. */
export function zoomBy(factor, x = 0, y = 0) {
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
export function panBy(x, y) {
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
export function ownWindow(image) {
  return image.window ? { centre: image.window[0], width: image.window[1] } : { centre: null, width: null };
}

export function resetView() {
  Object.assign(state.view, ownWindow(state.task.image), { zoom: 1, panX: 0, panY: 0 });
  if (state.slice && state.view.centre === null) Object.assign(state.view, startingWindow(state.slice.image));
  redraw({ image: true });
}

/** Buttons and legend as the display is. */
export function updateTools() {
  for (const name of ["masks", "outline", "differences", "others"]) {
    $(name).setAttribute("aria-pressed", String(state.show[name]));
  }
  $("opacity").value = state.show.opacity;
  const several = state.study.structures.length > 1 && state.task.structure !== null;
  $("others").hidden = !several;
  $("differences").hidden = state.task.sides === 1;
  const shown = shownStructures();
  if (state.show.differences && state.task.sides > 1) shown.push({ name: "differences", colour: DIFFERENCE });
  $("legend").replaceChildren(...shown.map(legendEntry));
}

function legendEntry({ name, code, colour }) {
  const chip = make("span", "chip", name);
  const dot = make("i");
  dot.style.background = css(colour);
  chip.prepend(dot);
  chip.classList.toggle("asked", code !== undefined && name === state.task.structure);
  return chip;
}
