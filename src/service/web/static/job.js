// Polls a job's status through the API and reloads the page when the job has ended.
"use strict";
(() => {
  const POLL_MS = 1000;
  const job = document.getElementById("job");
  if (!job) return;
  const bar = document.getElementById("job-bar");
  const text = document.getElementById("job-text");
  let failures = 0;

  async function look() {
    try {
      const answer = await fetch(`/jobs/${encodeURIComponent(job.dataset.id)}`, { cache: "no-store" });
      if (!answer.ok) throw new Error(String(answer.status));
      const now = await answer.json();
      failures = 0;
      bar.max = Math.max(1, now.blocks_total);
      bar.value = now.blocks_done;
      text.textContent =
        now.status === "queued"
          ? "Waiting in the queue"
          : now.blocks_done < now.blocks_total
            ? `${now.blocks_done} of ${now.blocks_total} blocks read`
            : "All blocks read; scoring";
      if (now.status !== "queued" && now.status !== "running") {
        location.reload();
        return;
      }
    } catch {
      failures += 1;
      if (failures === 5) text.textContent = "The service does not answer; retrying";
    }
    setTimeout(look, POLL_MS);
  }
  setTimeout(look, 300);
})();
