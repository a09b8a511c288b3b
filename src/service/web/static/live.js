// Asks for this page again every few seconds and shows what has changed in its [data-live] part,
// or the page that it leads to by then. What the reader is working on stays: a change is then
// announced instead.
"use strict";
(() => {
  const part = document.querySelector("[data-live]");
  const status = document.getElementById("live");
  if (!part || !status) return;
  const EVERY_MS = Number(part.dataset.live) || 5000;
  let tag = null;
  let shown = part.innerHTML;
  let failures = 0;

  const say = (text) => {
    if (status.textContent !== text) status.textContent = text;
  };
  // The focus returns to an element with an id.
  const isBusy = () =>
    (part.contains(document.activeElement) && !document.activeElement.id) ||
    part.querySelector("input:checked, details[open]") !== null;

  function show(fresh) {
    const focused = document.activeElement.id;
    shown = fresh.innerHTML;
    part.replaceChildren(...fresh.childNodes);
    if (focused) document.getElementById(focused)?.focus();
    say(`Updated at ${new Date().toISOString().slice(11, 19)} UTC`);
  }

  function offer(fresh) {
    const button = document.createElement("button");
    button.className = "slim";
    button.textContent = "Show the changes";
    button.addEventListener("click", () => show(fresh));
    status.replaceChildren("There are changes. ", button);
  }

  async function look() {
    const headers = tag === null ? {} : { "If-None-Match": tag };
    const answer = await fetch(location.href, { headers, cache: "no-store" });
    if (answer.status === 304) return;
    if (!answer.ok) throw new Error(String(answer.status));
    if (answer.redirected) return location.assign(answer.url);
    tag = answer.headers.get("ETag");
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.querySelector("[data-live]");
    if (fresh === null || fresh.innerHTML === shown) return;
    if (isBusy()) offer(fresh);
    else show(fresh);
  }

  async function again() {
    const began = performance.now();
    if (!document.hidden) {
      try {
        await look();
        if (failures >= 3) say("The service answers again");
        failures = 0;
      } catch {
        failures += 1;
        if (failures === 3) say("The service does not answer; this page may be out of date");
      }
    }
    // A slow service is asked less often: a page costs it a twentieth of its time at most.
    setTimeout(again, Math.max(EVERY_MS, 20 * (performance.now() - began)));
  }
  setTimeout(again, EVERY_MS);
})();
