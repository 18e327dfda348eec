"""Scrapy's ImagesPipeline, 64 requests at a time. Runs under another Python: ADDRESSES.txt OUT."""

# mypy: ignore-errors
# its imports are not ours

import sys
from pathlib import Path

import scrapy
from scrapy.crawler import CrawlerProcess


class Images(scrapy.Spider):
    """One item an address; the start page is there because a spider needs one."""

    name = "images"

    def parse(self, response):
        for address in Path(self.addresses).read_text().split():
            yield {"image_urls": [address]}


if __name__ == "__main__":
    addresses, out = sys.argv[1:]
    process = CrawlerProcess(
        {
            "ITEM_PIPELINES": {"scrapy.pipelines.images.ImagesPipeline": 1},
            "IMAGES_STORE": out,
            "CONCURRENT_REQUESTS": 64,
            "CONCURRENT_REQUESTS_PER_DOMAIN": 64,
            "CONCURRENT_ITEMS": 64,
            "DOWNLOAD_DELAY": 0,
            "RETRY_ENABLED": False,
            "TELNETCONSOLE_ENABLED": False,
            "LOG_LEVEL": "ERROR",
        }
    )
    first = Path(addresses).read_text().split(maxsplit=1)[0]
    Images.start_urls = [first.rpartition("/i/")[0] + "/"]
    process.crawl(Images, addresses=addresses)
    process.start()
