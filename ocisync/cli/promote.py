"""`ocisync promote`: what `ocisync tag` does, under the name that people look for."""

from __future__ import annotations

import copy

from ocisync.cli import tag

command = copy.copy(tag.command)
command.name = "promote"
