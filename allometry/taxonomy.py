"""Where a species stands among the mammals: superorder, order, family, genus.

Superorders after Murphy et al. (2001) Science 294:2348, https://doi.org/10.1126/science.1067179. A name that
is not known is a taxon of its own: it shares nothing at its level with any other.
"""

from __future__ import annotations

from dataclasses import dataclass

from pbpk.checks import choose

LEVELS: tuple[str, ...] = ("superorder", "order", "family", "genus")
UNKNOWN = ""

SUPERORDERS: dict[str, str] = {
    "Rodentia": "Glires",
    "Lagomorpha": "Glires",
    "Primates": "Euarchonta",
    "Scandentia": "Euarchonta",
    "Dermoptera": "Euarchonta",
    "Cetartiodactyla": "Laurasiatheria",
    "Perissodactyla": "Laurasiatheria",
    "Carnivora": "Laurasiatheria",
    "Pholidota": "Laurasiatheria",
    "Chiroptera": "Laurasiatheria",
    "Eulipotyphla": "Laurasiatheria",
    "Afrosoricida": "Afrotheria",
    "Macroscelidea": "Afrotheria",
    "Proboscidea": "Afrotheria",
    "Hyracoidea": "Afrotheria",
    "Sirenia": "Afrotheria",
    "Tubulidentata": "Afrotheria",
    "Cingulata": "Xenarthra",
    "Pilosa": "Xenarthra",
    "Dasyuromorphia": "Marsupialia",
    "Didelphimorphia": "Marsupialia",
    "Diprotodontia": "Marsupialia",
    "Microbiotheria": "Marsupialia",
    "Notoryctemorphia": "Marsupialia",
    "Paucituberculata": "Marsupialia",
    "Peramelemorphia": "Marsupialia",
    "Monotremata": "Monotremata",
}


@dataclass(frozen=True)
class Taxon:
    """A species' place; ``""`` where it is not known.

    Attributes:
        order: One of :data:`SUPERORDERS`.
        family: The family.
        genus: The genus.
    """

    order: str
    family: str = UNKNOWN
    genus: str = UNKNOWN

    def __post_init__(self) -> None:
        """Checks the order, on which the superorder hangs."""
        if self.order != UNKNOWN:
            choose("clade", self.order, SUPERORDERS)

    @property
    def path(self) -> tuple[str, ...]:
        """The names at :data:`LEVELS`, from the widest to the narrowest."""
        return (SUPERORDERS.get(self.order, UNKNOWN), self.order, self.family, self.genus)

    @classmethod
    def parse(cls, text: str) -> Taxon:
        """Reads ``"Rodentia"``, ``"Rodentia,Caviidae"`` or ``"Rodentia,Caviidae,Cavia"``.

        >>> Taxon.parse("Rodentia, Caviidae").path
        ('Glires', 'Rodentia', 'Caviidae', '')
        """
        parts = [part.strip() for part in text.split(",")]
        if not 1 <= len(parts) <= 3 or not all(parts):
            raise ValueError(
                f"clade must be an order, or an order, a family and a genus with commas between, but is "
                f"{text!r}. Write Rodentia,Caviidae for a guinea pig."
            )
        return cls(*parts)


TAXA: dict[str, Taxon] = {
    "human": Taxon("Primates", "Hominidae", "Homo"),
    "monkey": Taxon("Primates", "Cercopithecidae", "Macaca"),
    "dog": Taxon("Carnivora", "Canidae", "Canis"),
    "pig": Taxon("Cetartiodactyla", "Suidae", "Sus"),
    "rabbit": Taxon("Lagomorpha", "Leporidae", "Oryctolagus"),
    "rat": Taxon("Rodentia", "Muridae", "Rattus"),
    "mouse": Taxon("Rodentia", "Muridae", "Mus"),
}
