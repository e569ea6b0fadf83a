// Renders what pymdownx.arithmatex marks, \(...\) in a line and \[...\] on a line of its own, when the page is read.
document.addEventListener("DOMContentLoaded", () => {
  for (const place of document.querySelectorAll(".arithmatex")) {
    const text = place.textContent.trim();
    // A word joiner keeps the punctuation that follows on the formula's line.
    if (/^[.,:;)]/.test(place.nextSibling?.data ?? "")) place.after("\u2060");
    katex.render(text.slice(2, -2), place, { displayMode: text.startsWith("\\["), throwOnError: false });
  }
});
