"""Three families of word problems about prices, rates and wages: shop, rate, earn."""

from fdllm.tiny.draws import LARGEST, Draw
from fdllm.tiny.families import Story

DAYS = ("Monday", "Tuesday", "Friday", "Sunday")
WORK = (
    ("reads", "read", "pages"),
    ("walks", "walk", "miles"),
    ("plants", "plant", "trees"),
    ("bakes", "bake", "cakes"),
)


def shop(draw: Draw) -> Story:
    """Two prices, their sum, perhaps a coupon, perhaps change."""
    (hero,) = draw.people(1)
    first, second = draw.nouns(2)
    many, price, many2, price2 = (draw.number(2, 9) for _ in range(4))
    buys = draw.wording("buys", "gets")
    story = Story(
        told=[f"{hero.name} {buys} {many} {first} for ${price} each and {many2} {second} for ${price2} each."]
    )
    one = story.compute(many, "*", price, f"The {first} cost ${{e}}.", draw=draw)
    two = story.compute(many2, "*", price2, f"The {second} cost ${{e}}.", draw=draw)
    total = (f"In total {hero.he} pays ${{e}}.", "Together they cost ${e}.")
    story.value = story.compute(one, "+", two, *total, draw=draw)
    if draw.chance(0.35):
        b = draw.number(2, 15)
        story.told.append(f"{hero.start} has a coupon for ${b} off.")
        story.value = story.compute(story.value, "-", b, f"With the coupon {hero.he} pays ${{e}}.", draw=draw)
    if draw.chance(0.5):
        money = draw.number(story.value + 1, LARGEST)
        story.told += [f"{hero.start} pays with ${money}.", f"How much change does {hero.he} get?"]
        story.value = story.compute(
            money, "-", story.value, "The change is ${e}.", f"{hero.start} gets ${{e}} back.", draw=draw
        )
    else:
        story.told.append(f"How much does {hero.he} pay?")
    return story


def rate(draw: Draw) -> Story:
    """So many a day for some days, then more, perhaps against a goal."""
    (hero,) = draw.people(1)
    does, do, things = draw.random.choice(WORK)
    a, days = draw.number(2, 12), draw.number(2, 7)
    story = Story(told=[f"{hero.name} {does} {a} {things} a day for {days} days."])
    total = (f"In total {hero.he} {does} {{e}} {things}.", f"That makes {{e}} {things}.")
    first = story.compute(a, "*", days, f"First {hero.he} {does} {{e}} {things}.", draw=draw)
    if draw.chance(0.6):
        b, more_days = draw.number(2, 12), draw.number(2, 5)
        story.told.append(f"Then {hero.he} {does} {b} {things} a day for {more_days} days.")
        more = story.compute(b, "*", more_days, f"Then {hero.he} {does} {{e}} {things}.", draw=draw)
    else:
        more = draw.number(2, 20)
        story.told.append(f"On {draw.wording(*DAYS)} {hero.he} {does} {more} more {things}.")
    story.value = story.compute(first, "+", more, *total, draw=draw)
    if draw.chance(0.5):
        goal = draw.number(story.value + 1, LARGEST)
        story.told += [f"{hero.start} wants to {do} {goal} {things}.", f"How many {things} are left?"]
        story.value = story.compute(goal, "-", story.value, f"That leaves {{e}} {things}.", draw=draw)
    else:
        story.told.append(f"How many {things} does {hero.name} {do}?")
    return story


def earn(draw: Draw) -> Story:
    """Hours of two days, a wage, perhaps something spent or a bonus."""
    (hero,) = draw.people(1)
    wage, a, b = draw.number(3, 12), draw.number(2, 8), draw.number(2, 8)
    day, day2 = draw.random.sample(DAYS, 2)
    story = Story(told=[f"{hero.name} earns ${wage} an hour."])
    story.told.append(f"{hero.start} works {a} hours on {day} and {b} hours on {day2}.")
    hours = story.compute(a, "+", b, f"{hero.start} works {{e}} hours.", f"{hero.name} works {{e}} hours.", draw=draw)
    story.value = story.compute(hours, "*", wage, f"{hero.start} earns ${{e}}.", draw=draw)
    if draw.chance(0.6):
        spent = draw.number(2, min(40, story.value - 1))
        story.told += [f"{hero.start} spends ${spent}.", f"How much does {hero.he} have left?"]
        story.value = story.compute(
            story.value, "-", spent, f"{hero.start} has ${{e}} left.", "That leaves ${e}.", draw=draw
        )
    elif draw.chance(0.5):
        bonus = draw.number(2, 40)
        story.told += [f"{hero.start} gets a bonus of ${bonus}.", f"How much does {hero.he} have?"]
        story.value = story.compute(story.value, "+", bonus, f"With the bonus {hero.he} has ${{e}}.", draw=draw)
    else:
        story.told.append(f"How much does {hero.he} earn?")
    return story
