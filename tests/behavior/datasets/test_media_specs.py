"""The ready specs of films, videos, places and music, on a few rows in the published form."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from behavior.flow.memory import prepare_tables
from tests.behavior.datasets.published import events, feature, lines, read, write_files


@pytest.mark.parametrize("name", ["ml-20m", "ml-25m", "ml-32m"])
def test_movielens(name: str, tmp_path: Path) -> None:
    files = {
        "ratings.csv": "userId,movieId,rating,timestamp\n1,296,5.0,1147880044\n1,306,3.5,1147868817\n"
        "2,296,0.5,1147880044\n2,1,4.0,1141415790\n",
        "movies.csv": "movieId,title,genres\n1,Toy Story (1995),Adventure|Animation\n"
        '296,"Pulp ""Fiction"", or Not (1994)",Comedy|Crime\n306,Café Red (1994),(no genres listed)\n'
        "999,Never Rated (2001),Drama\n",
    }
    write_files(tmp_path, files)
    assert events(name, tmp_path, "timestamp", "value") == [
        (1, 296, "rate", 1147880044, 5.0),
        (1, 306, "rate", 1147868817, 3.5),
        (2, 296, "rate", 1147880044, 0.5),
        (2, 1, "rate", 1141415790, 4.0),
    ]
    genres = feature(prepare_tables(name, tmp_path), "item", "genres")
    assert genres == {1: ["Adventure", "Animation"], 296: ["Comedy", "Crime"], 306: ["(no genres listed)"]}


LOG = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
    "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab\n"
)


@pytest.mark.parametrize("version", ["pure", "1k", "27k"])
def test_kuairand(version: str, tmp_path: Path) -> None:
    part = "_part1" if version == "27k" else ""
    onehot = [f"onehot_feat{number}" for number in range(18)]
    files = {
        f"log_standard_4_08_to_4_21_{version}{part}.csv": LOG
        + "3,1071,20220408,1600,1649408076860,1,1,0,0,0,0,1,175045,87433,0,0,0,0,1\n"
        + "0,10,20220411,1900,1649675512388,0,0,0,0,0,0,0,0,209900,0,0,0,0,1\n",
        f"log_standard_4_22_to_5_08_{version}{part}.csv": LOG
        + "3,10,20220422,100,1650600000000,0,0,0,0,0,1,0,1405,209900,0,0,1,0,0\n",
        f"log_random_4_22_to_5_08_{version}.csv": LOG
        + "3,20,20220423,100,1650686400000,1,0,0,0,0,0,0,7000,65400,0,0,0,1,1\n",
        f"user_features_{version}.csv": "user_id,user_active_degree,is_lowactive_period,is_live_streamer,"
        "is_video_author,follow_user_num,follow_user_num_range,fans_user_num,fans_user_num_range,"
        "friend_user_num,friend_user_num_range,register_days,register_days_range," + ",".join(onehot) + "\n"
        '0,full_active,0,0,1,5,"(0,10]",312,"[100,1k)",0,0,3624,730+' + ",1" * 18 + "\n"
        '3,high_active,0,0,0,0,0,1,"[1,10)",0,0,107,91-180' + ",0" * 17 + ",\n",
        f"video_features_basic_{version}.csv": "video_id,author_id,video_type,upload_dt,upload_type,"
        "visible_status,video_duration,server_width,server_height,music_id,music_type,tag\n"
        '10,441,NORMAL,2020-07-08,ShortImport,1.0,17200.0,720.0,1280.0,989206467,4.0,"12,65"\n'
        "20,8,AD,2022-04-10,Kmovie,0.0,218066.0,720.0,1280.0,6355810746,9.0,2\n"
        "1071,9,NORMAL,2022-04-10,LongImport,0.0,,720.0,1280.0,9155697141,9.0,\n",
    }
    write_files(tmp_path, files)
    columns = ("timestamp", "value", "is_like", "is_hate", "long_view", "is_profile_enter", "is_rand", "tab")
    assert events("kuairand", tmp_path, *columns) == [
        (3, 1071, "click", 1649408076860, 1.0, "1", "0", "1", "0", "0", "1"),
        (0, 10, "impression", 1649675512388, 0.0, "0", "0", "0", "0", "0", "1"),
        (3, 10, "impression", 1650600000000, 0.0, "0", "1", "0", "1", "0", "0"),
        (3, 20, "click", 1650686400000, 1.0, "0", "0", "0", "0", "1", "1"),
    ]
    played = [row[0] for row in read("kuairand", tmp_path).rows("play_time_ms")]
    assert played == pytest.approx([math.log1p(ms) for ms in (175045, 0, 1405, 7000)], rel=1e-6)
    data = prepare_tables("kuairand", tmp_path)
    assert feature(data, "item", "tag") == {10: ["12", "65"], 20: ["2"], 1071: []}
    assert feature(data, "item", "video_type") == {10: "NORMAL", 20: "AD", 1071: "NORMAL"}
    assert feature(data, "item", "author_id") == {10: "441", 20: "8", 1071: "9"}
    assert feature(data, "user", "follow_user_num_range") == {0: "(0,10]", 3: "0"}
    assert feature(data, "user", "onehot_feat17") == {0: "1", 3: None}


def write_yelp(folder: Path) -> None:
    review = {
        "review_id": "KU_O5udG6zpxOg-VcAEodg",
        "user_id": "mh_-eMZ6K5RLWhZyISBhwA",
        "business_id": "XQfwVwDr-v0ZS3_CbbE5Xw",
        "stars": 3.0,
        "useful": 0,
        "funny": 0,
        "cool": 0,
        "text": "If you decide to eat here,\nbe aware it's slow. Très bien.",
        "date": "2018-07-07 22:09:11",
    }
    other = {**review, "business_id": "Pns2l4eNsfO8kk83dixA6A", "stars": 5.0, "date": "2012-01-03 15:28:18"}
    businesses = [
        {
            "business_id": "Pns2l4eNsfO8kk83dixA6A",
            "name": "Abby Rappoport, LAC, CMQ",
            "city": "Santa Barbara",
            "state": "CA",
            "stars": 5.0,
            "review_count": 7,
            "attributes": {"ByAppointmentOnly": "True"},
            "categories": "Doctors, Traditional Chinese Medicine, Naturopathic/Holistic",
            "hours": None,
        },
        {
            "business_id": "XQfwVwDr-v0ZS3_CbbE5Xw",
            "name": "Turning Point",
            "city": "North Wales",
            "state": "PA",
            "attributes": None,
            "categories": None,
            "hours": {"Monday": "7:30-15:0"},
        },
    ]
    write_files(
        folder,
        {
            "yelp_academic_dataset_review.json": lines(review, other),
            "yelp_academic_dataset_business.json": lines(*businesses),
        },
    )


def test_yelp(tmp_path: Path) -> None:
    write_yelp(tmp_path)

    def microseconds(*parts: int) -> int:
        return int(datetime(*parts, tzinfo=UTC).timestamp()) * 1_000_000

    user = "mh_-eMZ6K5RLWhZyISBhwA"
    assert events("yelp", tmp_path, "timestamp", "value") == [
        (user, "XQfwVwDr-v0ZS3_CbbE5Xw", "review", microseconds(2018, 7, 7, 22, 9, 11), 3.0),
        (user, "Pns2l4eNsfO8kk83dixA6A", "review", microseconds(2012, 1, 3, 15, 28, 18), 5.0),
    ]
    data = prepare_tables("yelp", tmp_path)
    cities = {"Pns2l4eNsfO8kk83dixA6A": "Santa Barbara", "XQfwVwDr-v0ZS3_CbbE5Xw": "North Wales"}
    assert feature(data, "item", "city") == cities


def test_yelp_categories_are_split(tmp_path: Path) -> None:
    write_yelp(tmp_path)
    doctors = ["Doctors", "Traditional Chinese Medicine", "Naturopathic/Holistic"]
    found = feature(prepare_tables("yelp", tmp_path), "item", "categories")
    assert found == {"Pns2l4eNsfO8kk83dixA6A": doctors, "XQfwVwDr-v0ZS3_CbbE5Xw": []}


def test_yambda(tmp_path: Path) -> None:
    kinds = ["listen", "listen", "like", "unlike", "listen", "dislike", "undislike"]
    log = {
        "uid": pa.array([100] * 7, pa.uint32()),
        "timestamp": pa.array([0, 39420, 39420, 39425, 25827200, 25913600, 25913605], pa.uint32()),
        "item_id": pa.array([8326270, 1441281, 1441281, 1441281, 286361, 286361, 286361], pa.uint32()),
        "is_organic": pa.array([0, 1, 1, 1, 0, 0, 0], pa.uint8()),
        "played_ratio_pct": pa.array([100, 159, None, None, 4, None, None], pa.uint16()),
        "track_length_seconds": pa.array([170, 105, None, None, 185, None, None], pa.uint32()),
        "event_type": pa.array(kinds).dictionary_encode(),
    }
    files = {
        "multi_event.parquet": log,
        "artist_item_mapping.parquet": {
            "artist_id": pa.array([7, 8, 9], pa.uint32()),
            "item_id": pa.array([1441281, 1441281, 286361], pa.uint32()),
        },
        "album_item_mapping.parquet": {
            "album_id": pa.array([70, 80], pa.uint32()),
            "item_id": pa.array([8326270, 286361], pa.uint32()),
        },
    }
    write_files(tmp_path, files)
    found = events("yambda", tmp_path, "timestamp", "value", "is_organic")
    assert [row[2] for row in found] == kinds
    assert found[1] == (100, 1441281, "listen", 39420, 159.0, "1")
    assert found[2] == (100, 1441281, "like", 39420, None, "1")
    data = prepare_tables("yambda", tmp_path)
    assert feature(data, "item", "artist") == {8326270: None, 1441281: "7", 286361: "9"}
    assert feature(data, "item", "album") == {8326270: "70", 1441281: None, 286361: "80"}
    [row] = data.sequences.to_pylist()
    assert (row["train_end"], row["valid_end"]) == (4, 5)
    assert row["track_length_seconds"][0] == pytest.approx(math.log1p(170), rel=1e-6)
