// Runs before anything is painted, so that a chosen theme does not flash. The choice is no secret: it outlives the tab.
(() => {
  const chosen = localStorage.getItem("steerzo-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
