# Adds so many contacts to the files of a domain controller that does not run: by LDAP it would take ten times as long.
# usage: samba_contacts.py FOLDER COUNT
import sys

import ldb
from samba.auth import system_session
from samba.param import LoadParm
from samba.samdb import SamDB

folder, count = sys.argv[1], int(sys.argv[2])
settings = LoadParm()
settings.load(folder + "/etc/smb.conf")
directory = SamDB(
    url=folder + "/private/sam.ldb",
    session_info=system_session(),
    lp=settings,
    options=["batch_mode:1"],
    flags=ldb.FLG_NOSYNC,
)
unit = "OU=bulk," + str(directory.get_default_basedn())
directory.transaction_start()
directory.add({"dn": unit, "objectClass": "organizationalUnit"})
for number in range(1, count + 1):
    name = "bulk%05d" % number
    directory.add({"dn": "CN=%s,%s" % (name, unit), "objectClass": "contact", "mail": name + "@lab.test"})
    if number % 2000 == 0:
        directory.transaction_commit()
        directory.transaction_start()
directory.transaction_commit()
