// Runs before the first paint, so that a chosen theme does not flash. A classic script: modules run too late.
(() => {
  const root = document.documentElement;
  const stored = () => {
    try {
      return localStorage.getItem("theme");
    } catch {
      return null; // storage may be forbidden; the page then follows the system
    }
  };
  root.dataset.theme = ["light", "dark"].includes(stored()) ? stored() : "auto";
})();
