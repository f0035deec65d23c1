window.YTD.community_tweet.part0 = [
  {
    "tweet": {
      "id_str": "2029905354552246291",
      "id": "2029905354552246291",
      "community_id": "1500000000000000001",
      "community_id_str": "1500000000000000001",
      "scopes": {
        "followers": false
      },
      "created_at": "Fri Mar 06 14:02:05 +0000 2026",
      "full_text": "In a community \u2728 #MadeUp https://t.co/com123",
      "lang": "en",
      "favorite_count": "1",
      "entities": {
        "hashtags": [
          {
            "text": "MadeUp",
            "indices": [
              "15",
              "22"
            ]
          }
        ],
        "user_mentions": [],
        "urls": [],
        "media": []
      },
      "extended_entities": {
        "media": [
          {
            "id_str": "900000000000000020",
            "type": "photo",
            "media_url_https": "https://pbs.twimg.com/media/Community.jpg",
            "url": "https://t.co/com123",
            "sizes": {
              "large": {
                "w": "64",
                "h": "48",
                "resize": "fit"
              }
            }
          }
        ]
      }
    }
  }
]