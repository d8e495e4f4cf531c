// Runs before the first paint, so that the page does not flash in the other colours. Kept across tabs and sessions.
(() => {
  const chosen = localStorage.getItem("steerzo-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
