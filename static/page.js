// What every page does: the choice of theme, told to the charts.

const root = document.documentElement;
const choice = document.getElementById("theme");

function announce() {
  document.dispatchEvent(new CustomEvent("themechange"));
}

if (choice) {
  choice.value = root.dataset.theme;
  choice.addEventListener("change", () => {
    root.dataset.theme = choice.value;
    try {
      localStorage.setItem("theme", choice.value);
    } catch {
      // storage may be forbidden: the choice then lasts for this page
    }
    announce();
  });
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", announce);
