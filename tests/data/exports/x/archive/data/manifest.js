window.__THAR_CONFIG = {
  "userInfo": {
    "accountId": "42",
    "userName": "made_up_account",
    "displayName": "Made Up"
  },
  "archiveInfo": {
    "sizeBytes": "1",
    "generationDate": "2026-03-08T00:00:00.000Z",
    "isPartialArchive": false,
    "maxPartSizeBytes": "53687091200"
  },
  "dataTypes": {
    "tweets": {
      "files": [
        {
          "fileName": "data/tweets.js",
          "globalName": "YTD.tweets.part0",
          "count": "4"
        },
        {
          "fileName": "data/tweets-part1.js",
          "globalName": "YTD.tweets.part1",
          "count": "2"
        }
      ]
    }
  }
}