/** What the page knows and shows, in one place, and small helpers for its elements. */

/** The element with an id. */
export const $ = (id) => document.getElementById(id);

/** One object for all modules. */
export const state = {
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
  undoable: null, // UUID of the last answer, which can be taken back
};

/** An element with a class and text; text never becomes markup. */
export function make(tag, className = "", text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}
