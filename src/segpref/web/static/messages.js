/** What the page says, which part of it is shown, and how it waits for the server. */

import { Failure, unstored } from "./server.js";
import { stopFlicker } from "./screen.js";
import { $, make, state } from "./state.js";

/** Shows one of the <main> parts. */
export function showPage(name) {
  state.page = name;
  for (const page of document.querySelectorAll("main")) page.hidden = page.id !== name;
  stopFlicker();
}

/** A page with nothing but a message. */
export function showMessage(title, text, button = "", action = null) {
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
export function notify(title, text, button, action) {
  $("notice").classList.remove("good", "other");
  $("notice-title").textContent = title;
  $("notice-text").textContent = text;
  $("notice-button").replaceChildren(`${button} `, make("kbd", "", "Enter"));
  noticeAction = action;
  $("notice").hidden = false;
  if (state.page !== "compare") showMessage(title, text, button, action);
}

/** Does what the notice asks; whether there was one. */
export function followNotice() {
  const action = noticeAction;
  action?.();
  return action !== null;
}

export function hideNotice() {
  $("notice").hidden = true;
  noticeAction = null;
}

/** A short message, also read out by screen readers. */
export function say(text) {
  $("status").textContent = text;
}

/** Where an assignment stands; answers are open in one phase only. */
export function setPhase(phase) {
  state.phase = phase;
  $("compare").dataset.phase = phase;
  for (const button of $("choices").children) button.disabled = phase !== "ready";
  $("undo").disabled = !state.undoable || !["ready", "failed", "loading", "feedback"].includes(phase);
  $("panes").setAttribute("aria-busy", String(phase === "loading"));
}

/** Does something until it succeeds or is refused for good; says what is wrong and when it is tried again. */
export async function persist(action, title) {
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
export function giveUp(failure) {
  if (failure.status === 401) {
    const waiting = unstored(state.study?.rater).length > 0;
    const promise = waiting ? " Your last answer is kept in this browser and will be stored then." : "";
    showMessage("Please open your personal link", `${failure.message}${promise}`);
  } else {
    showMessage("Something went wrong", failure.message, "Try again", () => location.reload());
  }
}
