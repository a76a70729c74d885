"""The machine's own apt, with all its state in a folder of ours: root is not needed, nothing is installed."""
import collections
import glob
import os
import re
import subprocess
import sys

HELPER = "/usr/lib/apt/apt-helper"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

# the index files of programs' icons
ICONS = (
    ("DEP-11", "Components-$(NATIVE_ARCHITECTURE).yml"),
    ("DEP-11-icons", "icons-64x64.tar"),
    ("DEP-11-icons-large", "icons-128x128.tar"),
)


def configured_sources():
    """(URI, suites, key) of each of the machine's apt sources."""
    for name in sorted(glob.glob("/etc/apt/sources.list.d/*.sources")):
        with open(name, encoding="utf8") as file:
            for stanza in re.split(r"\n\s*\n", file.read()):
                fields = dict(re.findall(r"(?m)^([\w-]+):\s*(.*)$", stanza))
                if "URIs" in fields:
                    yield fields["URIs"].split()[0], fields.get("Suites", ""), fields.get("Signed-By", "")
    for name in ["/etc/apt/sources.list", *sorted(glob.glob("/etc/apt/sources.list.d/*.list"))]:
        if os.path.exists(name):
            with open(name, encoding="utf8") as file:
                for line in file:
                    match = re.match(r"\s*deb\s+(?:\[[^]]*\]\s*)?(\S+)\s+(\S+)", line)
                    if match:
                        yield match.group(1), match.group(2), ""


def machine_mirror():
    """The first Debian archive (not -security) that this machine uses, and its key."""
    for uri, suites, key in configured_sources():
        if uri.rstrip("/").endswith("/debian") and "-security" not in suites.split()[0]:
            return uri, key if os.path.isfile(key) else KEYRING
    sys.exit("error: no Debian archive among this machine's apt sources: the catalogues are made from one")


class Apt:
    def __init__(self, root, suites, icons=False):
        self.root = root = os.path.abspath(root)
        self.targets = collections.defaultdict(list)
        for folder in ("lists/partial", "cache/archives/partial", "etc/parts", "deb"):
            os.makedirs(f"{root}/{folder}", exist_ok=True)
        uri, key = machine_mirror()
        with open(f"{root}/etc/sources.list", "w", encoding="utf8") as file:
            for suite in suites:
                file.write(f"deb [signed-by={key}] {uri} {suite} main\n")
        options = {
            "Dir::Etc::sourcelist": f"{root}/etc/sources.list",
            "Dir::Etc::sourceparts": f"{root}/etc/parts",
            "Dir::State::lists": f"{root}/lists",
            "Dir::Cache": f"{root}/cache",
            "Acquire::Languages": "fr",
            "APT::Sandbox::User": "root" if os.geteuid() == 0 else "",
            "Debug::NoLocking": "1",
            "APT::Update::Error-Mode": "any",  # an index that can't be had is an error, not a warning
        }
        for name, meta in ICONS if icons else ():
            prefix = f"Acquire::IndexTargets::deb::{name}"
            options[prefix + "::MetaKey"] = f"$(COMPONENT)/dep11/{meta}"
            options[prefix + "::ShortDescription"] = meta
            options[prefix + "::Description"] = f"$(RELEASE)/$(COMPONENT) {meta}"
            options[prefix + "::KeepCompressed"] = "true"
            options[prefix + "::KeepCompressedAs"] = "gz"
            options[prefix + "::DefaultEnabled"] = "true"
        self.options = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]

    def update(self):
        subprocess.run(["apt-get", *self.options, "-q", "update"], check=True, stdout=sys.stderr)
        command = ["apt-get", *self.options, "indextargets", "--format", "$(CODENAME)|$(CREATED_BY)|$(FILENAME)"]
        for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines():
            suite, kind, name = line.split("|", 2)
            self.targets[suite, kind].append(name)

    def texts(self, suite, kind):
        """The unpacked index files of a kind."""
        for name in self.targets[suite, kind]:
            command = [HELPER, *self.options, "cat-file", name]
            yield subprocess.run(command, check=True, capture_output=True).stdout.decode("utf8", "replace")

    def package(self, name, suite):
        """Downloads one package and unpacks it; returns the folder."""
        folder = f"{self.root}/deb/{name}"
        if not os.path.isdir(folder + "/x"):
            os.makedirs(folder, exist_ok=True)
            subprocess.run(["apt-get", *self.options, "-q", "download", f"{name}/{suite}"], check=True, cwd=folder, stdout=sys.stderr)
            subprocess.run(["dpkg-deb", "-x", sorted(glob.glob(folder + "/*.deb"))[-1], folder + "/part"], check=True)
            os.rename(folder + "/part", folder + "/x")
        return folder + "/x"


def stanzas(text):
    """The fields of each stanza of a control file."""
    for stanza in text.split("\n\n"):
        fields, key = {}, None
        for line in stanza.split("\n"):
            if not line:
                continue
            if line[0] in " \t":
                if key:
                    fields[key] += "\n" + line
            else:
                key, _, value = line.partition(":")
                fields[key] = value.strip()
        if fields:
            yield fields
