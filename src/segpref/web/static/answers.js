/** Questions and answers: what can be answered, how it is stored, and what comes next. */

import { giveUp, hideNotice, notify, persist, say, setPhase, showPage } from "./messages.js";
import { buildPanes } from "./screen.js";
import { ask, Failure, forget, keep, newUuid } from "./server.js";
import { cache } from "./slices.js";
import { $, make, state } from "./state.js";
import { goTo, ownWindow, showPlane, updateTools } from "./view.js";

const AXES = ["axial", "coronal", "sagittal"];

const HOW = {
  pair: "You see one image twice, each time with another mask. Press ← or → for the better one.",
  "base-or-tuned": "You see one image twice, each time with another mask. Press ← or → for the better one.",
  "accept-reject": "You see an image with one mask. Press A if you would accept it as it is, R if not.",
  "best-of-four": "You see one image four times, each time with another mask. Press Q, W, A or S for the best one.",
};

/** What can be answered in a mode: what is sent, its key as the browser names it, as the screen shows it, and words. */
export function choices(mode) {
  return state.study?.choices[mode] ?? [];
}

/** Sends an answer until it is stored; where it is refused for good, that is said before the page goes on. */
export async function store(kept) {
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



export function setSure(sure) {
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

/** Once everything asked for is on the screen, it counts as seen and the rater may answer. */
export function afterDrawing() {
  const { axis, index } = state.slice;
  (state.seen[axis] ??= new Set()).add(index);
  if (state.phase !== "loading") return;
  state.shownSince ??= performance.now();
  hideNotice();
  setPhase("ready");
}

/** Stores an answer, then shows what comes next; after a practice pair, what would have been right. */
export async function answer(choice) {
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
      state.undoable = kept.body.uuid;
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
  const words = choices(task.mode).find(([choice]) => choice === right.choice)?.[3];
  const text = [right.correct || !words ? "" : `Correct answer: ${words}.`, right.why ?? ""];
  setPhase("feedback");
  for (const button of $("choices").children) {
    button.classList.toggle("right", button.dataset.choice === right.choice);
  }
  await new Promise((resolve) => {
    notify(!words ? "Thank you." : right.correct ? "Correct." : "Not quite.", text.join(" ").trim(), "Go on", resolve);
    $("notice").classList.add(right.correct ? "good" : "other");
  });
  hideNotice();
}

/** Takes the last answer back and shows what it was about. */
export async function undo() {
  if (!state.undoable || state.phase === "sending") return;
  const uuid = state.undoable;
  state.undoable = null;
  setPhase("sending");
  say("Taking your last answer back…");
  try {
    const task = await persist(() => ask("POST", "api/undo", { uuid }), "Your last answer is not taken back yet.");
    show(task);
    say("Your last answer was taken back.");
  } catch (failure) {
    if (failure.status === 401) return void giveUp(failure);
    await next();
    say(failure.message);
  }
}

export async function next() {
  show(await persist(() => ask("POST", "api/next", {}), "The next images could not be loaded."));
}

// --------------------------------------------------------------------------------------------------------------- pages



export function updateProgress({ done, total, practice_left: practiceLeft = 0 }) {
  const practising = practiceLeft > 0 ? ` · ${practiceLeft} for practice` : "";
  $("progress-text").textContent = `${done} of ${total}${practising}`;
  Object.assign($("progress"), { max: Math.max(1, total), value: done });
}

export function showWelcome() {
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
  const soFar = done > 0 ? ` · ${done} of ${total} done` : "";
  $("welcome-progress").textContent = `You are ${study.rater}${soFar}`;
  showPage("welcome");
  $("begin").focus();
}

function showDone() {
  const { done, total } = state.study.progress;
  $("done-text").textContent = `Nothing is left to answer for now: ${done} of ${total} done. Every answer is stored.`;
  $("done-undo").hidden = !state.undoable;
  showPage("done");
  $("done-again").focus();
}

/** Shows an assignment, or that there is none. */
function show(task) {
  cache.clear();
  state.undoable = task.undo ?? null;
  if (task.progress) {
    state.study.progress = task.progress;
    updateProgress(task.progress);
  }
  setPhase("loading");
  if (task.done) return void showDone();
  Object.assign(state, { task, slice: null, seen: {}, shownMs: 0, shownSince: null, sure: null, turn: 0 });
  state.view = { ...task.start, ...ownWindow(task.image), zoom: 1, panX: 0, panY: 0 };
  Object.assign(state.show, { masks: true, differences: false, others: false });
  showPage("compare");
  $("question").textContent = state.study.question;
  $("practice").hidden = !task.practice;
  buildPanes(task.sides);
  buildChoices(task.mode);
  const flat = task.image.shape.indexOf(1); // a picture, or one slice of a volume
  buildPlanes(flat < 0 ? AXES : [AXES[flat]]);
  setSure(null);
  say("");
  hideNotice();
  setPhase("loading"); // for the new buttons
  updateTools();
  $("panes").focus();
  goTo(task.start.axis, task.start.index);
}

function buildChoices(mode) {
  const buttons = choices(mode).map(([choice, , key, words]) => {
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
