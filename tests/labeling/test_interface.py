"""The annotator's page: what it asks, and what it must never show."""

import subprocess
import sys

import pytest
from defusedxml.ElementTree import fromstring

from labeling import interface
from schemas.labels import Choice


def test_the_verdicts_are_the_choices_of_the_field_in_their_order():
    assert interface.choices(interface.VERDICT) == tuple(Choice)


def test_the_page_shows_nothing_of_a_task_but_its_image():
    assert interface.variables() == {interface.IMAGE}


def test_no_two_answers_share_a_hotkey():
    keys = [tag.attrib["hotkey"] for tag in fromstring(interface.CONFIG).iter("Choice")]

    assert len(keys) == len(set(keys))
    assert all(keys)


def test_the_verdict_is_required_and_single_while_the_rest_is_optional():
    controls = {
        tag.attrib["name"]: tag.attrib for tag in fromstring(interface.CONFIG).iter("Choices")
    }

    assert controls[interface.VERDICT]["required"] == "true"
    assert controls[interface.VERDICT]["choice"] == "single"
    assert controls[interface.REASONS].get("required", "false") == "false"
    assert controls[interface.REASONS]["choice"] == "multiple"


def test_the_image_can_be_zoomed():
    (image,) = fromstring(interface.CONFIG).iter("Image")

    assert image.attrib["zoom"] == "true"
    assert image.attrib["zoomControl"] == "true"


def test_a_configuration_equals_itself_reindented_and_with_other_attribute_order():
    ours = '<View><Image name="image" value="$image"/></View>'
    theirs = '<View>\n  <Image value="$image"\n     name="image" />\n</View>'

    assert interface.same_config(ours, theirs)


@pytest.mark.parametrize("change", [("Real", "Genuine"), ('hotkey="1"', 'hotkey="9"')])
def test_a_changed_configuration_is_told_from_ours(change):
    assert not interface.same_config(interface.CONFIG, interface.CONFIG.replace(*change, 1))


def test_labelling_without_a_server_does_not_load_the_sdk():
    code = (
        "import sys, labeling.client, labeling.tasks, labeling.consensus, labeling.agreement;"
        "print('label_studio_sdk' in sys.modules, 'torch' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["False", "False"]
