"""Horizon in a real browser: Debian's chromium, driven by Playwright."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from playwright.sync_api import Browser, Error, Locator, Page, expect, sync_playwright

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox",  # the tests run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

_PATIENCE = 300_000
"""Milliseconds."""


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """A browser with a fresh profile, which Playwright removes afterwards."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=list(FLAGS))
        yield started
        started.close()


class Dashboard:
    """What a user does in the dashboard. Every step leaves a picture."""

    def __init__(self, page: Page, url: str, pictures: Path) -> None:
        self._page = page
        self._url = url
        self._pictures = pictures
        self._taken = 0
        # A dashboard on a busy machine takes its time.
        page.set_default_timeout(_PATIENCE)
        expect.set_options(timeout=_PATIENCE)

    def picture(self, name: str) -> None:
        """For people to look at: a browser that cannot take one on a busy machine is no failure."""
        self._taken += 1
        with contextlib.suppress(Error):
            self._page.screenshot(path=self._pictures / f"{self._taken:02d}-{name}.png")

    def log_in(self, user: str, password: str) -> None:
        self._page.goto(f"{self._url}/auth/login/")
        self._page.fill("#id_username", user)
        self._page.fill("#id_password", password)
        self.picture("login")
        self._page.click("#loginBtn")
        self._page.wait_for_url("**/project/**")
        self.picture("logged-in")

    # ------------------------------------------------------------ the launch dialog

    def launch(
        self,
        name: str,
        image: str,
        flavor: str,
        network: str,
        key: str,
        *,
        user_data: str = "",
        listed: Mapping[str, str] = MappingProxyType({}),
        custom: Mapping[str, str] = MappingProxyType({}),
    ) -> dict[str, str]:
        """Launch a server from the dialog under Instances. Returns the descriptions of what is `listed` under Metadata.

        `listed` and `custom`: values by the keys that the list has and that are typed.
        """
        self.open_instances()
        self._page.click("#instances__action_launch-ng")
        dialog = self._page.locator(".modal-dialog")
        dialog.locator("input#name").fill(name)
        self._step(dialog, "Source")
        self._choose(dialog, image)
        self.picture("launch-source")
        self._step(dialog, "Flavor")
        self._choose(dialog, flavor)
        self.picture("launch-flavor")
        self._step(dialog, "Networks")
        self._choose(dialog, network)
        self.picture("launch-network")
        self._step(dialog, "Key Pair")
        self._choose(dialog, key)
        self.picture("launch-key")
        self._step(dialog, "Configuration")
        dialog.locator("textarea#user-data").fill(user_data)
        self.picture("launch-configuration")
        self._step(dialog, "Metadata")
        descriptions = {}
        if listed:
            dialog.locator(".metadata-tree li.level-0").filter(has_text=re.compile(r"^\s*Container\s*$")).click()
        for known, value in listed.items():
            descriptions[known] = self._choose_listed(dialog, known, value)
        for typed, value in custom.items():
            dialog.locator("input[name=customItem]").fill(typed)
            dialog.locator("input[name=customItem] + span button").click()
            self._metadata(dialog, typed).fill(value)
        self.picture("launch-metadata")
        dialog.locator("button.finish").click()
        expect(dialog).to_have_count(0)
        return descriptions

    def change_metadata(self, table: str, name: str, group: str, values: Mapping[str, str]) -> dict[str, str]:
        """Take keys from the list that `Update Metadata` in a row of a table opens. Returns how they are described."""
        self._page.goto(f"{self._url}/{table}/", wait_until="networkidle")
        exact = re.compile(rf"^\s*{re.escape(name)}\s*$")
        row = self._page.locator("tr").filter(has=self._page.locator("td, a", has_text=exact)).first
        action = row.locator("a, button").filter(has_text=re.compile(r"^\s*Update Metadata\s*$")).first
        expect(action).to_be_attached()
        if not action.is_visible():
            row.locator(".dropdown-toggle").click()
        action.click()
        dialog = self._page.locator(".modal-dialog")
        shown = re.compile(rf"^\s*{re.escape(group)}\s*$")
        dialog.locator(".metadata-tree li.level-0").filter(has_text=shown).click()
        descriptions = {key: self._choose_listed(dialog, key, value) for key, value in values.items()}
        self.picture("metadata")
        dialog.locator(".modal-footer .btn-primary").click()
        expect(dialog).to_have_count(0)
        return descriptions

    def _choose_listed(self, dialog: Locator, key: str, value: str) -> str:
        """Take a key from the list under Metadata. Returns how it is described."""
        tree = dialog.locator(".metadata-tree")
        search = tree.locator("input[ng-model='ctrl.filterText.available']")
        search.fill(key)
        tree.locator("li.level-1 a.btn").click()
        search.fill("")
        field = self._metadata(dialog, key)
        if field.evaluate("field => field.tagName") == "SELECT":
            field.select_option(label=value)
        else:
            field.fill(value)
        described = tree.locator(".well")
        expect(described).to_contain_text(f"({key})")
        return described.inner_text()

    def _metadata(self, dialog: Locator, key: str) -> Locator:
        """The field of a key that has been taken."""
        return dialog.locator(f".metadata-tree-item:has(span[title='{key}']) [name=property]")

    def _step(self, dialog: Locator, title: str) -> None:
        dialog.locator(".wizard-nav a").filter(has_text=title).click()

    def _choose(self, dialog: Locator, name: str) -> None:
        """Move a row of the visible step from `Available` to `Allocated`, unless the dialog did so by itself."""
        step = dialog.locator("ng-include:visible, .step:visible").last
        exact = re.compile(rf"^\s*{re.escape(name)}\s*$")
        allocated = step.locator(".transfer-allocated tr").filter(has=self._page.locator("td", has_text=exact))
        available = step.locator(".transfer-available tr").filter(has=self._page.locator("td", has_text=exact))
        expect(allocated.or_(available).first).to_be_visible()
        if allocated.count() == 0:
            available.first.locator("button").first.click()
        expect(allocated.first).to_be_visible()

    # ------------------------------------------------------------ the table of instances

    def open_instances(self) -> None:
        self._page.goto(f"{self._url}/project/instances/", wait_until="networkidle")

    def row(self, name: str) -> Locator:
        return self._page.locator("table#instances tbody tr").filter(
            has=self._page.locator("a", has_text=re.compile(rf"^\s*{re.escape(name)}\s*$"))
        )

    def wait_status(self, name: str, status: str) -> None:
        """The page itself asks again and again while something is under way."""
        expect(
            self.row(name)
            .locator("td.status_up, td.status_down, td.status_unknown, td")
            .filter(has_text=re.compile(rf"^\s*{status}\s*$"))
            .first
        ).to_be_visible()
        self.picture(f"instances-{status.lower()}")

    def press(self, name: str, action: str) -> None:
        """Choose from the menu at the end of a row what is done at once."""
        row = self.row(name)
        row.locator("a.dropdown-toggle").click()
        row.locator(f"[id$='__action_{action}']").click()
        self.picture(f"pressed-{action}")

    def offers(self, name: str) -> set[str]:
        """The actions of a row and its menu."""
        found = self.row(name).locator("[id*='__action_']").evaluate_all("all => all.map(each => each.id)")
        return {each.rpartition("__action_")[2] for each in found}

    def act(self, name: str, action: str) -> None:
        """Choose from the menu at the end of a row, and confirm."""
        self.press(name, action)
        self._page.locator(".modal-dialog .btn-primary, .modal-dialog .btn-danger").last.click()

    def fill_in(self, name: str, action: str, **choices: str) -> None:
        """Choose from the menu at the end of a row, and send the form that opens; `choices`: values by field."""
        row = self.row(name)
        row.locator("a.dropdown-toggle").click()
        row.locator(f"[id$='__action_{action}']").click()
        form = self._page.locator(".modal-dialog")
        for field, value in choices.items():
            # The dashboard draws its own list in the place of the browser's.
            form.locator(f"select[name={field}]").select_option(value, force=True)
        self.picture(f"form-{action}")
        form.locator(".btn-primary").last.click()
        expect(form).to_have_count(0)

    def console_log(self, name: str) -> str:
        """The text under the tab Log of a server."""
        self.row(name).locator("a").filter(has_text=name).click()
        self._page.locator("a[data-target='#instance_details__log']").click()
        log = self._page.locator("pre.logs")
        expect(log).to_be_visible()
        self.picture("log")
        return log.inner_text()

    def serial_console(self, name: str, typed: str, expected: str) -> None:
        """Type a line under the tab Console of a server, and wait for what the terminal shows then."""
        self.open_instances()
        self.row(name).locator("a").filter(has_text=name).click()
        self._page.locator("a[data-target='#instance_details__console']").click()
        terminal = self._page.frame_locator("iframe#console_embed").locator(".terminal")
        expect(terminal).to_contain_text(re.compile(r"[#$]"))
        self.picture("console")
        terminal.click()
        self._page.keyboard.type(typed)
        self._page.keyboard.press("Enter")
        expect(terminal).to_contain_text(expected)
        self.picture("console-answered")

    def snapshot(self, name: str, snapshot: str) -> None:
        self.open_instances()
        self.row(name).locator("[id$='__action_snapshot']").first.click()
        self._page.locator(".modal-dialog input#id_name, .modal-dialog input[name=name]").fill(snapshot)
        self.picture("snapshot")
        self._page.locator(".modal-dialog .btn-primary").last.click()
        # The dashboard goes there by itself; to go elsewhere meanwhile would break that off.
        self._page.wait_for_url("**/project/images**", wait_until="networkidle")

    def wait_image(self, name: str, status: str = "Active") -> None:
        """Wait until the table under Images shows it."""
        self._page.goto(f"{self._url}/project/images", wait_until="networkidle")
        row = self._page.locator("tr").filter(has=self._page.locator("a", has_text=name))
        expect(row.first).to_contain_text(status)
        self.picture("images")
