window.YTD.deleted_tweets.part0 = [
  {
    "tweet": {
      "edit_info": {
        "initial": {
          "editTweetIds": [
            "2029905354552246278"
          ],
          "editsRemaining": "5",
          "isEditEligible": true
        }
      },
      "retweeted": false,
      "source": "<a href=\"https://mobile.x.com\">X</a>",
      "entities": {
        "hashtags": [
          {
            "text": "MadeUp",
            "indices": [
              "0",
              "7"
            ]
          }
        ],
        "symbols": [],
        "user_mentions": [],
        "urls": []
      },
      "display_text_range": [
        "0",
        "20"
      ],
      "favorite_count": "7",
      "id_str": "2029905354552246278",
      "truncated": false,
      "retweet_count": "1",
      "id": "2029905354552246278",
      "created_at": "Fri Mar 06 13:02:05 +0000 2026",
      "favorited": false,
      "full_text": "#MadeUp",
      "lang": "en",
      "deleted_at": "2026-03-07T00:00:00.000Z"
    }
  }
]