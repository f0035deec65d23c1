window.YTD.note_tweet.part0 = [
  {
    "noteTweet": {
      "noteTweetId": "1800000000000000000",
      "createdAt": "2026-03-06T13:02:05.000Z",
      "updatedAt": "2026-03-06T13:02:05.000Z",
      "lifecycle": {
        "value": "Public"
      },
      "core": {
        "text": "A long post that says much more than fits in the first part of it, and then ends #Later",
        "hashtags": [
          {
            "text": "Later",
            "fromIndex": "1",
            "toIndex": "2"
          }
        ],
        "urls": [],
        "mentions": [],
        "styletags": []
      }
    }
  }
]