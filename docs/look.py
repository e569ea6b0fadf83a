"""Look at every page of a built site in a browser: python docs/look.py SITE

At widths of a screen and of a telephone no page may scroll sideways, every formula must be rendered, every picture
shown, and nothing may come from elsewhere. Without a browser that starts it says so and ends well.
"""

import contextlib
import json
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
OPTIONS = (
    "--headless=new", "--no-sandbox", "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage",
    "--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)  # fmt: skip
WIDTHS = (1280, 400)
SECONDS = 120
FRAME = """<!doctype html><meta charset="utf-8"><script>
const faultsOf = async (view, width) => {
  const all = name => [...view.document.querySelectorAll(name)], faults = [];
  await new Promise(resolve => view.setTimeout(resolve, 50));
  await view.document.fonts.ready;
  const wide = view.document.documentElement.scrollWidth;
  if (wide > view.innerWidth) faults.push(`is ${wide} px wide`);
  for (const place of all(".arithmatex"))
    if (!place.querySelector(".katex")) faults.push("does not render " + place.textContent);
  for (const box of all(".katex-display"))
    if (width > 1000 && box.scrollWidth > box.clientWidth)
      faults.push("cuts the formula " + box.querySelector("annotation").textContent);
  for (const font of view.document.fonts) if (font.status == "error") faults.push("lacks the font " + font.family);
  for (const image of all("img")) {
    image.loading = "eager";
    await image.decode().catch(() => faults.push("lacks " + image.src));
  }
  for (const {name} of view.performance.getEntriesByType("resource"))
    if (!name.startsWith(location.origin) && !name.startsWith("data:")) faults.push("loads " + name);
  return faults;
};
const look = page => new Promise(done => {
  const frame = document.createElement("iframe"), found = [];
  frame.style = `width: ${WIDTHS[0]}px; height: 900px; border: 0`;
  frame.src = page;
  frame.onload = async () => {
    const view = frame.contentWindow;
    for (const width of WIDTHS) {
      frame.style.width = `${width}px`;
      const faults = await faultsOf(view, width);
      const formulas = view.document.querySelectorAll(".arithmatex .katex").length;
      found.push({page, width, formulas, faults});
    }
    frame.remove();
    done(found);
  };
  document.body.append(frame);
});
const PAGES = [], WIDTHS = [];
addEventListener("load", async () => {
  const found = [];
  for (const page of PAGES) found.push(...await look(page));
  fetch("/found", {method: "POST", body: JSON.stringify(found)});
});
</script><body></body>"""


class Site(SimpleHTTPRequestHandler):
    """Serves a folder, the page that looks at the others, and takes what it found."""

    frame: str
    asked: bool  # the browser has started
    found: "queue.Queue[list[dict]]"

    def do_GET(self) -> None:
        if self.path != "/look":
            return super().do_GET()
        Site.asked = True
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(self.frame.encode())

    def do_POST(self) -> None:
        found = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()
        self.found.put(found)

    def log_message(self, *_: object) -> None:
        """Be silent about every request."""


def look(browser: str, site: Path) -> list[dict]:
    """A record (page, width in px, rendered formulas, faults) for each page and width.

    It is empty if the browser never starts. Exits if a browser that has started does not finish.
    """
    pages = ["/" + page.relative_to(site).as_posix() for page in sorted(site.rglob("*.html"))]
    lists = f"const PAGES = {json.dumps(pages)}, WIDTHS = {list(WIDTHS)};"
    Site.frame, Site.asked = FRAME.replace("const PAGES = [], WIDTHS = [];", lists), False
    Site.found = queue.Queue()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Site, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [browser, *OPTIONS, f"--user-data-dir={profile}", "--remote-debugging-port=0"]
        with subprocess.Popen(
            [*command, f"http://127.0.0.1:{server.server_port}/look"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        ) as process:  # fmt: skip
            try:
                end = time.monotonic() + SECONDS
                while process.poll() is None and time.monotonic() < end:
                    with contextlib.suppress(queue.Empty):
                        return Site.found.get(timeout=0.5)
                if Site.asked:
                    sys.exit(f"{browser} did not finish within {SECONDS} s")
                return []
            finally:
                server.shutdown()
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()


def main() -> None:
    """All pages, and an exit code."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print(f"the pages were not looked at: none of {', '.join(BROWSERS)} is on the PATH")
        return
    found = look(browser, Path(sys.argv[1]).resolve())
    if not found:
        print(f"the pages were not looked at: {browser} does not start")
        return
    for record in found:
        for fault in record["faults"]:
            print(f"{record['page']} at {record['width']} px {fault}")
    formulas = sum(record["formulas"] for record in found) // len(WIDTHS)
    print(f"{len(found) // len(WIDTHS)} pages looked at in widths of {WIDTHS} px, {formulas} formulas")
    if any(record["faults"] for record in found) or not formulas:
        sys.exit(1)


if __name__ == "__main__":
    main()
