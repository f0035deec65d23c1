window.YTD.tweets.part0 = [
  {
    "tweet": {
      "edit_info": {
        "initial": {
          "editTweetIds": [
            "2029905354552246272"
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
        "user_mentions": [
          {
            "screen_name": "made_up_friend",
            "id_str": "55"
          }
        ],
        "urls": [
          {
            "url": "https://t.co/link1",
            "expanded_url": "https://x.com/made_up_friend/status/1"
          }
        ],
        "media": [
          {
            "id_str": "900000000000000001",
            "id": "900000000000000001",
            "type": "photo",
            "url": "https://t.co/abc123",
            "media_url": "http://pbs.twimg.com/media/AAAfirst.jpg",
            "media_url_https": "https://pbs.twimg.com/media/AAAfirst.jpg",
            "expanded_url": "https://x.com/made_up_account/status/2029905354552246272/photo/1",
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
      "id_str": "2029905354552246272",
      "truncated": false,
      "retweet_count": "1",
      "id": "2029905354552246272",
      "created_at": "Fri Mar 06 13:02:05 +0000 2026",
      "favorited": false,
      "full_text": "Two &amp; more by @made_up_friend #MadeUp https://t.co/link1 https://t.co/abc123",
      "lang": "en",
      "possibly_sensitive": false,
      "extended_entities": {
        "media": [
          {
            "id_str": "900000000000000001",
            "id": "900000000000000001",
            "type": "photo",
            "url": "https://t.co/abc123",
            "media_url": "http://pbs.twimg.com/media/AAAfirst.jpg",
            "media_url_https": "https://pbs.twimg.com/media/AAAfirst.jpg",
            "expanded_url": "https://x.com/made_up_account/status/2029905354552246272/photo/1",
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
          },
          {
            "id_str": "900000000000000002",
            "id": "900000000000000002",
            "type": "photo",
            "url": "https://t.co/abc123",
            "media_url": "http://pbs.twimg.com/media/BBBsecond.png",
            "media_url_https": "https://pbs.twimg.com/media/BBBsecond.png",
            "expanded_url": "https://x.com/made_up_account/status/2029905354552246272/photo/1",
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
            "2029905354552246273"
          ],
          "editsRemaining": "5",
          "isEditEligible": true
        }
      },
      "retweeted": false,
      "source": "<a href=\"https://mobile.x.com\">X</a>",
      "entities": {
        "hashtags": [],
        "user_mentions": [
          {
            "screen_name": "made_up_other"
          }
        ],
        "urls": [],
        "media": [
          {
            "id_str": "900000000000000003",
            "id": "900000000000000003",
            "type": "photo",
            "url": "https://t.co/abc123",
            "media_url": "http://pbs.twimg.com/media/CCCother.jpg",
            "media_url_https": "https://pbs.twimg.com/media/CCCother.jpg",
            "expanded_url": "https://x.com/made_up_account/status/1700000000000000000/photo/1",
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
            },
            "source_status_id_str": "1700000000000000000",
            "source_user_id_str": "77"
          }
        ]
      },
      "display_text_range": [
        "0",
        "20"
      ],
      "favorite_count": "7",
      "id_str": "2029905354552246273",
      "truncated": false,
      "retweet_count": "1",
      "id": "2029905354552246273",
      "created_at": "Fri Mar 06 13:02:05 +0000 2026",
      "favorited": false,
      "full_text": "RT @made_up_other: look #MadeUp https://t.co/abc123",
      "lang": "en",
      "extended_entities": {
        "media": [
          {
            "id_str": "900000000000000003",
            "id": "900000000000000003",
            "type": "photo",
            "url": "https://t.co/abc123",
            "media_url": "http://pbs.twimg.com/media/CCCother.jpg",
            "media_url_https": "https://pbs.twimg.com/media/CCCother.jpg",
            "expanded_url": "https://x.com/made_up_account/status/1700000000000000000/photo/1",
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
            },
            "source_status_id_str": "1700000000000000000",
            "source_user_id_str": "77"
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
            "2029905354552246274"
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
      "id_str": "2029905354552246274",
      "truncated": false,
      "retweet_count": "1",
      "id": "2029905354552246274",
      "created_at": "Fri Mar 06 13:02:05 +0000 2026",
      "favorited": false,
      "full_text": "#MadeUp",
      "lang": "en",
      "extended_entities": {
        "media": [
          {
            "id_str": "900000000000000004",
            "id": "900000000000000004",
            "type": "video",
            "url": "https://t.co/abc123",
            "media_url": "http://pbs.twimg.com/media/VVV.jpg",
            "media_url_https": "https://pbs.twimg.com/media/VVV.jpg",
            "expanded_url": "https://x.com/made_up_account/status/2029905354552246274/photo/1",
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
            },
            "video_info": {
              "variants": [
                {
                  "url": "https://video.twimg.com/v.mp4",
                  "content_type": "video/mp4",
                  "bitrate": "1"
                }
              ]
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
            "2029905354552246275"
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
      "id_str": "2029905354552246275",
      "truncated": false,
      "retweet_count": "1",
      "id": "2029905354552246275",
      "created_at": "Fri Mar 06 13:02:05 +0000 2026",
      "favorited": false,
      "full_text": "no picture",
      "lang": "und"
    }
  }
]