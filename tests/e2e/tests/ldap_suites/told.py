# What becomes of each test, a line a test: its name, and how it ended.
import sys
import unittest

OUT = sys.stdout


class Told(unittest.TestResult):
    def __init__(self, same=str):
        super().__init__()
        self.same = same

    def startTest(self, test):
        self.said = "ok"
        super().startTest(test)

    def addFailure(self, test, error):
        self.said = "failed: " + str(error[1])

    def addError(self, test, error):
        self.said = "error: %s %s" % (error[0].__name__, error[1])

    def addSkip(self, test, reason):
        self.said = "skipped: " + reason

    def stopTest(self, test):
        print(test.id(), self.same(self.said.splitlines()[0]), file=OUT, flush=True)
        super().stopTest(test)
