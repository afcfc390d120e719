// What Grafana and Gitea do at a sign-in, step for step, by the library that both speak LDAP with (go-ldap 3.4).
//
// Settings come as JSON on stdin; what happened at each step goes to stdout as JSON.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/go-ldap/ldap/v3"
)

var given struct {
	As              string `json:"as"`
	Port            int    `json:"port"`
	CA              string `json:"ca"`
	Base            string `json:"base"`
	Account         string `json:"account"`
	AccountPassword string `json:"account_password"`
	UID             string `json:"uid"`
	Password        string `json:"password"`
}

var steps []uint16

// step notes how something ended, and says whether it went well.
func step(err error) bool {
	code := uint16(ldap.LDAPResultSuccess)
	if err != nil {
		refused, isLDAP := err.(*ldap.Error)
		if !isLDAP {
			log.Fatal(err)
		}
		code = refused.ResultCode
	}
	steps = append(steps, code)
	return err == nil
}

func connect() *ldap.Conn {
	pem, err := os.ReadFile(given.CA)
	if err != nil {
		log.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	connection, err := ldap.DialURL(fmt.Sprintf("ldaps://127.0.0.1:%d", given.Port), ldap.DialWithTLSConfig(&tls.Config{RootCAs: roots}))
	if err != nil {
		log.Fatal(err)
	}
	connection.SetTimeout(time.Minute)
	return connection
}

func search(connection *ldap.Conn, attributes ...string) []*ldap.Entry {
	filter := fmt.Sprintf("(uid=%s)", ldap.EscapeFilter(given.UID))
	request := ldap.NewSearchRequest(given.Base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false, filter, attributes, nil)
	found, err := connection.Search(request)
	if !step(err) {
		return nil
	}
	return found.Entries
}

// grafana binds as its own account, reads everything about the person, and becomes the person to see whether the password is right.
func grafana() bool {
	connection := connect()
	defer connection.Close()
	if !step(connection.Bind(given.Account, given.AccountPassword)) {
		return false
	}
	found := search(connection, "uid", "sn", "givenName", "mail", "memberOf")
	return len(found) == 1 && found[0].GetAttributeValue("sn") != "" && step(connection.Bind(found[0].DN, given.Password))
}

// gitea looks for the name only, and reads everything else with the person's own rights.
func gitea() bool {
	connection := connect()
	defer connection.Close()
	if !step(connection.Bind(given.Account, given.AccountPassword)) {
		return false
	}
	found := search(connection)
	if len(found) != 1 {
		return false
	}
	right := step(connection.Bind(found[0].DN, given.Password))
	// After a No, too: what is left of the connection is nobody's.
	own := search(connection, "uid", "sn", "mail")
	return right && len(own) == 1 && own[0].GetAttributeValue("mail") != ""
}

func main() {
	if err := json.NewDecoder(os.Stdin).Decode(&given); err != nil {
		log.Fatal(err)
	}
	in := map[string]func() bool{"grafana": grafana, "gitea": gitea}[given.As]()
	if err := json.NewEncoder(os.Stdout).Encode(map[string]any{"in": in, "steps": steps}); err != nil {
		log.Fatal(err)
	}
}
