/**
 * The page on which a rater compares masks: no library, no build step, a plain 2D canvas.
 *
 * Slices arrive as raw values, image and masks apart. Two canvases in their native pixels hold what is shown of them:
 * the image after windowing, and the colours of each mask. From there they are drawn in true proportion (the image smoothed
 * if wished, masks never), and contours as lines along pixel edges. So window, zoom and opacity change without asking the
 * server, and an image may be larger than any texture.
 *
 * A rater can answer only while everything asked for is drawn (`state.phase` is "ready"). An answer counts as stored
 * only once the server says so; until then it is kept in this browser and sent again under the same UUID.
 *
 * state.js     what the page knows
 * server.js    requests, and answers that are not stored yet
 * slices.js    where slices lie, and a bounded store of them
 * pixels.js    from values to colours, in native pixels
 * screen.js    from native pixels to the panes
 * messages.js  what the page says
 * view.js      which slice, window, zoom and display
 * answers.js   questions and answers
 * page.js      keys, pointer, start
 */

import { afterDrawing, answer, choices, next, setSure, showWelcome, store, undo, updateProgress } from "./answers.js";
import { followNotice, giveUp, persist, showMessage } from "./messages.js";
import { redraw, startFlicker, stopFlicker, whenDrawn } from "./screen.js";
import { ask, unstored } from "./server.js";
import { plane } from "./slices.js";
import { $, make, state } from "./state.js";
import * as view from "./view.js";

// ---------------------------------------------------------------------------------------------------------------- keys

/** Keys of the display: as the browser names them, as the screen shows them, words, what they do. */
const KEYS = [
  ["arrowup", "↑", "next slice", () => view.step(1), true],
  ["arrowdown", "↓", "previous slice", () => view.step(-1), true],
  ["n", "N", "next slice on which the masks differ", view.showNextDifference],
  ["p", "P", "next plane", () => view.showPlane(otherPlane())],
  ["m", "M", "masks on or off", () => view.toggle("masks")],
  ["o", "O", "outline or fill", () => view.toggle("outline")],
  ["<", "<", "fainter", () => view.setOpacity(state.show.opacity - 10), true],
  [">", ">", "stronger", () => view.setOpacity(state.show.opacity + 10), true],
  ["d", "D", "highlight where the masks differ", () => view.toggle("differences")],
  ["t", "T", "the other structures", () => view.toggle("others")],
  ["i", "I", "image smooth or in pixels", () => view.toggle("smooth")],
  ["[", "[", "more contrast", () => view.changeWindow(1 / 1.15, 0), true],
  ["]", "]", "less contrast", () => view.changeWindow(1.15, 0), true],
  [",", ",", "darker", () => view.changeWindow(1, -0.05), true],
  [".", ".", "brighter", () => view.changeWindow(1, 0.05), true],
  ["+", "+", "zoom in", () => view.zoomBy(1.25), true],
  ["-", "−", "zoom out", () => view.zoomBy(0.8), true],
  ["0", "0", "zoom and window as at first", view.resetView],
  ["shift+arrowleft", "Shift ←", "move the image", () => view.panBy(40, 0), true],
  ["shift+arrowright", "Shift →", "", () => view.panBy(-40, 0), true],
  ["shift+arrowup", "Shift ↑", "", () => view.panBy(0, 40), true],
  ["shift+arrowdown", "Shift ↓", "", () => view.panBy(0, -40), true],
  ["1", "1", "unsure (before you answer)", () => setSure(1)],
  ["2", "2", "fairly sure", () => setSure(2)],
  ["3", "3", "sure", () => setSure(3)],
  ["z", "Z", "take the last answer back", undo],
  ["?", "?", "these keys", openKeys],
];

function otherPlane() {
  const axes = [...$("planes").children].map((button) => button.dataset.axis);
  return axes[(axes.indexOf(state.view.axis) + 1) % axes.length];
}

function openKeys() {
  const mode = state.task?.mode ?? state.study?.mode ?? "pair";
  const answers = choices(mode).map(([, , key, words]) => [key, words]);
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

/** The name by which KEYS and the server know a key. */
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
  const choice = choices(state.task.mode).find(([, key]) => key === name)?.[0];
  if (choice) {
    event.preventDefault();
    if (!event.repeat) answer(choice);
    return;
  }
  const [, , , action, repeats] = KEYS.find(([key]) => key === name) ?? [];
  if (!action) return;
  event.preventDefault();
  if (repeats || !event.repeat) action();
}

/** Enter does what a notice or a page asks for, unless a button has the focus and is pressed. */
function onEnter(event) {
  if (event.repeat) return void event.preventDefault();
  if (event.target.matches("button") || followNotice()) return;
  $({ welcome: "begin", done: "done-again", message: "message-button" }[state.page])?.click();
}

// ------------------------------------------------------------------------------------------------------------- pointer

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
    view.zoomBy(distance({ x: event.clientX, y: event.clientY }) / distance(last));
    view.panBy(dx / 2, dy / 2);
  } else if (last.button === 2) {
    view.changeWindow(2 ** (dx / 200), -dy / 400);
  } else if (event.pointerType === "touch" && state.view.zoom === 1) {
    scrolled += dy;
    const slices = Math.trunc(scrolled / 14);
    scrolled -= slices * 14;
    if (slices !== 0) view.step(slices);
  } else {
    view.panBy(dx, dy);
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
  if (!event.ctrlKey && count > 1) return void view.step(event.deltaY > 0 ? -1 : 1);
  const box = event.target.getBoundingClientRect();
  const [x, y] = [event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2];
  view.zoomBy(event.deltaY > 0 ? 0.87 : 1.15, x, y);
}

// --------------------------------------------------------------------------------------------------------------- start

/** Exchanges the token of a personal link for a cookie, and removes it from the address bar. */
async function enter() {
  const token = location.hash.slice(1);
  history.replaceState(null, "", location.pathname + location.search);
  if (token) await persist(() => ask("POST", "api/enter", { token }), "The page could not be opened.");
}

/** Opens the study: answers that an earlier visit could not store go first. */
async function start() {
  showMessage("One moment", "The page is being opened.");
  try {
    // A link that was used before does no harm while its session lasts.
    const refused = await enter().catch((failure) => failure);
    state.study = await persist(() => ask("GET", "api/study"), "The page could not be opened.").catch((failure) => {
      throw refused ?? failure;
    });
    for (const kept of unstored(state.study.rater)) await store(kept);
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
    "notice-button": followNotice,
    "slice-down": () => view.step(-1),
    "slice-up": () => view.step(1),
    "next-difference": view.showNextDifference,
    narrower: () => view.changeWindow(1 / 1.15, 0),
    wider: () => view.changeWindow(1.15, 0),
    darker: () => view.changeWindow(1, -0.05),
    brighter: () => view.changeWindow(1, 0.05),
    "zoom-in": () => view.zoomBy(1.25),
    "zoom-out": () => view.zoomBy(0.8),
    reset: view.resetView,
  };
  for (const name of ["masks", "outline", "differences", "others"]) press[name] = () => view.toggle(name);
  for (const [id, action] of Object.entries(press)) $(id).addEventListener("click", () => action());
  for (const button of $("sure").querySelectorAll("button")) {
    button.addEventListener("click", () => setSure(Number(button.dataset.sure)));
  }
  $("slice").addEventListener("input", () => view.goTo(state.view.axis, Number($("slice").value)));
  $("opacity").addEventListener("input", () => view.setOpacity(Number($("opacity").value)));
  $("flicker").addEventListener("pointerdown", startFlicker);
  for (const name of ["pointerup", "pointerleave", "pointercancel"]) $("flicker").addEventListener(name, stopFlicker);

  // What was pressed or moved with a pointer does not keep the focus: the next key is meant for the images.
  let byPointer = false;
  document.addEventListener("pointerdown", () => (byPointer = true), true);
  document.addEventListener("keydown", () => (byPointer = false), true);
  for (const name of ["click", "change"]) $("compare").addEventListener(name, () => byPointer && focusPanes());

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
  area.addEventListener("dblclick", view.resetView);
  area.addEventListener("contextmenu", (event) => event.preventDefault());
  new ResizeObserver(() => state.page === "compare" && state.task && (view.updateSlicer(), redraw())).observe(area);
}

function focusPanes() {
  if (state.page === "compare" && !$("keys").open) $("panes").focus();
}

/** Time in which the page is not visible is not time in which masks were shown. */
function countVisibleTime() {
  if (state.shownSince === null && state.shownMs === 0) return;
  if (document.hidden) {
    state.shownMs += state.shownSince === null ? 0 : performance.now() - state.shownSince;
    state.shownSince = null;
  } else if (state.slice) {
    state.shownSince = performance.now();
  }
}

whenDrawn(afterDrawing);
listen();
start();
