window.YTD.twitter_circle_tweet.part0 = [
  {
    "tweet": {
      "id_str": "2029905354552246290",
      "id": "2029905354552246290",
      "created_at": "Fri Mar 06 13:02:05 +0000 2026",
      "full_text": "For few https://t.co/abc123",
      "entities": {
        "hashtags": [],
        "user_mentions": [],
        "urls": []
      },
      "extended_entities": {
        "media": [
          {
            "id_str": "900000000000000019",
            "type": "photo",
            "media_url_https": "https://pbs.twimg.com/media/Circle.jpg",
            "url": "https://t.co/abc123"
          }
        ]
      }
    }
  }
]