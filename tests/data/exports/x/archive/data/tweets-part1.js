window.YTD.tweets.part1 = [
  {
    "tweet": {
      "edit_info": {
        "initial": {
          "editTweetIds": [
            "2029905354552246276"
          ],
          "editsRemaining": "5",
          "isEditEligible": true
        }
      },
      "retweeted": false,
      "source": "<a href=\"https://mobile.x.com\">X</a>",
      "entities": {
        "hashtags": [],
        "user_mentions": [],
        "urls": [],
        "media": [
          {
            "id_str": "900000000000000005",
            "id": "900000000000000005",
            "type": "photo",
            "url": "https://t.co/abc123",
            "media_url": "http://pbs.twimg.com/media/DDDlong.jpg",
            "media_url_https": "https://pbs.twimg.com/media/DDDlong.jpg",
            "expanded_url": "https://x.com/made_up_account/status/2029905354552246276/photo/1",
            "display_url": "pic.x.com/abc123",
            "indices": [
              "8",
              "31"
            ],
            "sizes": {
              "large": {
                "w": "1200",
                "h": "800",
                "resize": "fit"
              },
              "thumb": {
                "w": "150",
                "h": "150",
                "resize": "crop"
              }
            }
          }
        ]
      },
      "display_text_range": [
        "0",
        "20"
      ],
      "favorite_count": "7",
      "id_str": "2029905354552246276",
      "truncated": false,
      "retweet_count": "1",
      "id": "2029905354552246276",
      "created_at": "Fri Mar 06 13:02:05 +0000 2026",
      "favorited": false,
      "full_text": "A long post that says much more than fits in the first part of it, and https://t.co/abc123",
      "lang": "qme",
      "extended_entities": {
        "media": [
          {
            "id_str": "900000000000000005",
            "id": "900000000000000005",
            "type": "photo",
            "url": "https://t.co/abc123",
            "media_url": "http://pbs.twimg.com/media/DDDlong.jpg",
            "media_url_https": "https://pbs.twimg.com/media/DDDlong.jpg",
            "expanded_url": "https://x.com/made_up_account/status/2029905354552246276/photo/1",
            "display_url": "pic.x.com/abc123",
            "indices": [
              "8",
              "31"
            ],
            "sizes": {
              "large": {
                "w": "1200",
                "h": "800",
                "resize": "fit"
              },
              "thumb": {
                "w": "150",
                "h": "150",
                "resize": "crop"
              }
            }
          }
        ]
      }
    }
  },
  {
    "tweet": {
      "edit_info": {
        "initial": {
          "editTweetIds": [
            "2029905354552246277"
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
      "id_str": "2029905354552246277",
      "truncated": false,
      "retweet_count": "1",
      "id": "2029905354552246277",
      "created_at": "Fri Mar 06 13:02:05 +0000 1997",
      "favorited": false,
      "full_text": "#MadeUp",
      "lang": "en",
      "extended_entities": {
        "media": [
          {
            "id_str": "900000000000000006",
            "id": "900000000000000006",
            "type": "photo",
            "url": "https://t.co/abc123",
            "media_url": "http://pbs.twimg.com/media/EEEodd.jpg",
            "media_url_https": "https://pbs.twimg.com/media/EEEodd.jpg",
            "expanded_url": "https://x.com/made_up_account/status/2029905354552246277/photo/1",
            "display_url": "pic.x.com/abc123",
            "indices": [
              "8",
              "31"
            ],
            "sizes": {
              "large": {
                "w": "1200",
                "h": "800",
                "resize": "fit"
              },
              "thumb": {
                "w": "150",
                "h": "150",
                "resize": "crop"
              }
            }
          }
        ]
      }
    }
  }
]