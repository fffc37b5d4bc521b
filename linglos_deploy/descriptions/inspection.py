"""How the answer of ``inspect`` looks: what it found there looks as it does everywhere."""

from __future__ import annotations

from linglos_deploy.inspection import Inspection
from linglos_deploy.reports.document import Section, sections_of


@sections_of.register
def inspection_sections(inspection: Inspection) -> tuple[Section, ...]:
    """The sections of the content."""
    return sections_of(inspection.content)
