// What every page does: the choice of theme, told to the charts; and where a page shows a day, its slider of months.

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

// --- the slider of months: moves the date field beside it, and the page follows once it rests ----------------------
const months = document.getElementById("id_month");
const day = document.getElementById("id_day");
const REST_MS = 600; // a key moves by one month: the page waits for the last of several
const FOCUS = "months-focus"; // the next page gives the slider the keyboard back

function monthStart() {
  const [year, month] = months.dataset.first.split("-").map(Number);
  return new Date(Date.UTC(year, month - 1 + months.valueAsNumber, 1)).toISOString().slice(0, 10);
}

if (months && day) {
  months.setAttribute("aria-valuetext", day.value);
  months.parentElement.hidden = false;
  let rest;
  months.addEventListener("input", () => {
    day.value = monthStart();
    months.setAttribute("aria-valuetext", day.value);
  });
  months.addEventListener("change", () => {
    clearTimeout(rest);
    rest = setTimeout(() => {
      try {
        sessionStorage.setItem(FOCUS, location.pathname);
      } catch {
        // storage may be forbidden: the keyboard then starts at the top
      }
      months.form.requestSubmit();
    }, REST_MS);
  });
  try {
    if (sessionStorage.getItem(FOCUS) === location.pathname) {
      months.focus({ preventScroll: true });
    }
    sessionStorage.removeItem(FOCUS);
  } catch {
    // as above
  }
}

// --- a timeline that is wider than its place: what comes around its day is seen first ------------------------------
for (const line of document.querySelectorAll(".timeline line.today")) {
  const place = line.closest(".timeline");
  const names = place.querySelector(".margin").getBoundingClientRect();
  const room = place.getBoundingClientRect().right - names.right;
  place.scrollLeft += line.getBoundingClientRect().left - names.right - room / 3;
}
