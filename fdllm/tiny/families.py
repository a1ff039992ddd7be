"""Three families of word problems about one kind of thing: inventory, compare, groups."""

from dataclasses import dataclass, field

from fdllm.tiny.draws import PACKS, Draw, Person, equation


@dataclass
class Story:
    """A problem while it is told: question sentences, answer steps and the number reached so far."""

    told: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    value: int = 0

    def compute(self, left: int, operator: str, right: int, *wordings: str, draw: Draw) -> int:
        """Append one step: a wording with its {e} replaced by the equation; returns the result."""
        spelled, result = equation(left, operator, right)
        self.steps.append(draw.wording(*wordings).replace("{e}", spelled))
        return result


def inventory(draw: Draw) -> Story:
    """One person's things go up and down, one to three times."""
    hero, friend = draw.people(2)
    (things,) = draw.nouns(1)
    story = Story(value=draw.number(3, 50))
    story.told.append(f"{hero.name} {draw.wording('has', 'starts with')} {story.value} {things}.")
    previous = ""
    for _ in range(draw.structure((1, 1, 2, 2, 2, 3))):
        event = draw.structure(("add", "add", "sub", "sub", "mul", "half", "grp", "take"))
        if event == previous and event in ("mul", "half", "grp"):
            event = "sub"
        EVENTS[event](draw, story, hero, friend, things)
        previous = event
    he = draw.wording(hero.name, hero.he)
    story.told.append(f"How many {things} does {he} have {draw.wording('now', 'in the end')}?")
    return story


def _add(draw: Draw, story: Story, hero: Person, friend: Person, things: str) -> None:
    b = draw.number(2, 40)
    story.told.append(
        draw.wording(f"{hero.start} buys {b} more {things}.", f"{friend.name} gives {hero.him} {b} more {things}.")
    )
    has = (f"Then {hero.he} has {{e}} {things}.", f"Now {hero.name} has {{e}} {things}.")
    story.value = story.compute(story.value, "+", b, *has, draw=draw)


def _sub(draw: Draw, story: Story, hero: Person, friend: Person, things: str) -> None:
    b = draw.number(2, min(40, story.value - 1))
    story.told.append(
        draw.wording(f"{hero.start} gives {b} {things} to {friend.name}.", f"Then {hero.he} sells {b} {things}.")
    )
    left = (f"That leaves {{e}} {things}.", f"{hero.name} has {{e}} {things} left.")
    story.value = story.compute(story.value, "-", b, *left, draw=draw)


def _mul(draw: Draw, story: Story, hero: Person, friend: Person, things: str) -> None:
    b = draw.structure((2, 2, 3))
    word = {2: "doubles", 3: "triples"}[b]
    story.told.append(f"Then {hero.he} {word} {hero.his} {things}.")
    has = (f"Then {hero.he} has {{e}} {things}.", f"Now {hero.name} has {{e}} {things}.")
    story.value = story.compute(story.value, "*", b, *has, draw=draw)


def _half(draw: Draw, story: Story, hero: Person, friend: Person, things: str) -> None:
    b = draw.structure((2, 2, 3, 4))
    part = {2: "half", 3: "a third", 4: "a quarter"}[b]
    story.told.append(draw.wording(f"{hero.start} keeps only {part} of them.", f"Then only {part} of them are left."))
    left = (f"That leaves {{e}} {things}.", f"{hero.name} has {{e}} {things} left.")
    story.value = story.compute(story.value, "/", b, *left, draw=draw)


def _grp(draw: Draw, story: Story, hero: Person, friend: Person, things: str) -> None:
    count, size = draw.number(2, 9), draw.number(2, 9)
    packs = draw.wording(*PACKS)
    who = draw.wording(f"{hero.start} buys", f"{friend.name} brings")
    story.told.append(f"{who} {count} {packs} of {size} {things} each.")
    more = story.compute(count, "*", size, f"The {packs} hold {{e}} {things}.", draw=draw)
    has = (f"Then {hero.he} has {{e}} {things}.", f"Now {hero.name} has {{e}} {things}.")
    story.value = story.compute(story.value, "+", more, *has, draw=draw)


def _take(draw: Draw, story: Story, hero: Person, friend: Person, things: str) -> None:
    count, size = draw.number(2, 9), draw.number(2, 9)
    story.told.append(f"{hero.start} gives {size} {things} to each of {count} friends.")
    less = story.compute(count, "*", size, f"{hero.start} gives away {{e}} {things}.", draw=draw)
    left = (f"That leaves {{e}} {things}.", f"{hero.name} has {{e}} {things} left.")
    story.value = story.compute(story.value, "-", less, *left, draw=draw)


EVENTS = {"add": _add, "sub": _sub, "mul": _mul, "half": _half, "grp": _grp, "take": _take}


def compare(draw: Draw) -> Story:
    """Two or three people, each with more, fewer or times as many as another."""
    people = draw.people(3 if draw.chance(0.5) else 2)
    (things,) = draw.nouns(1)
    owned = [draw.number(3, 40)]
    story = Story(told=[f"{people[0].name} {draw.wording('has', 'owns')} {owned[0]} {things}."])
    for i in range(1, len(people)):
        other = draw.structure(range(i))
        owned.append(_related(draw, story, people[i], people[other], owned[other], things))
    if draw.chance(0.7):
        story.told.append(f"How many {things} do they have {draw.wording('together', 'in total')}?")
        both = owned[0]
        for i in range(1, len(people)):
            pair = f"{people[0].name} and {people[1].name} have {{e}} {things}."
            total = (f"Together they have {{e}} {things}.", f"In total there are {{e}} {things}.")
            both = story.compute(both, "+", owned[i], *(total if i == len(people) - 1 else (pair,)), draw=draw)
        story.value = both
    else:
        story.told.append(f"How many {things} does {people[-1].name} have?")
        story.value = owned[-1]
    return story


def _related(draw: Draw, story: Story, who: Person, than: Person, base: int, things: str) -> int:
    relation = draw.structure(("more", "more", "fewer", "fewer", "times", "half"))
    if relation == "half":
        operator, b, phrase = "/", 2, f"half as many {things} as"
    elif relation == "times":
        operator, b = "*", draw.structure((2, 2, 3, 4))
        phrase = f"{'twice' if b == 2 else f'{b} times'} as many {things} as"
    else:
        operator, b = ("+" if relation == "more" else "-"), draw.number(2, 30)
        phrase = f"{b} {relation} {things} than"
    story.told.append(f"{who.name} has {phrase} {than.name}.")
    has = (f"{who.name} has {{e}} {things}.", f"So {who.name} has {{e}} {things}.")
    return story.compute(base, operator, b, *has, draw=draw)


def groups(draw: Draw) -> Story:
    """Packs of things, some lost or added, perhaps shared equally."""
    (hero,) = draw.people(1)
    (things,) = draw.nouns(1)
    packs, count, size = draw.wording(*PACKS), draw.number(2, 9), draw.number(2, 12)
    has = draw.wording("has", "fills")
    story = Story(told=[f"{hero.name} {has} {count} {packs} with {size} {things} {draw.wording('in each', 'each')}."])
    story.value = story.compute(
        count, "*", size, f"{hero.name} has {{e}} {things}.", f"The {packs} hold {{e}} {things}.", draw=draw
    )
    if draw.chance(0.75):
        _changed(draw, story, hero, things)
    divisors = [d for d in range(2, 10) if story.value % d == 0 and story.value // d >= 2]
    if draw.chance(0.75) and divisors:
        d = draw.structure(divisors)
        who = draw.wording("friends", "children", "teams")
        shares = draw.wording(
            f"{d} {who} share the {things} equally.", f"{hero.start} splits the {things} between {d} {who}."
        )
        story.told += [shares, f"How many {things} does each one get?"]
        story.value = story.compute(story.value, "/", d, f"Each one gets {{e}} {things}.", draw=draw)
    else:
        story.told.append(f"How many {things} are there {draw.wording('now', 'in the end')}?")
    return story


def _changed(draw: Draw, story: Story, hero: Person, things: str) -> None:
    if draw.chance(0.6):
        b = draw.number(1, min(30, story.value - 1))
        story.told.append(draw.wording(f"{b} of the {things} are broken.", f"{hero.start} throws away {b} {things}."))
        operator, wordings = "-", (f"That leaves {{e}} {things}.", f"Then {{e}} {things} are left.")
    else:
        b = draw.number(2, 30)
        story.told.append(draw.wording(f"{hero.name} adds {b} more {things}.", f"Then {b} more {things} are found."))
        operator, wordings = "+", (f"That makes {{e}} {things}.", f"Now {hero.he} has {{e}} {things}.")
    story.value = story.compute(story.value, operator, b, *wordings, draw=draw)
