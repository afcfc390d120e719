# Logins as devices and applications do them, with clients that are not ours. To be sourced after lib.sh.
# Wanted: cli ARGUMENTS... (the command line of the running Twinlock), $work.

# The code of somebody's app in this time step (0), the next (1), the one before (-1); never in the last seconds of a step.
code() {
    while [ $((30 - $(date +%s) % 30)) -lt 6 ]; do sleep 0.5; done
    oathtool --totp --base32 "$(cat "$work/seed.$1")" --now "@$(($(date +%s) + 30 * $2))"
}

# The seed goes into "the app", the code of the step before proves it.
enrol() {
    local answer
    answer=$(cli factor enrol "$1" -o json </dev/null) || return 1
    jq -r .seed <<<"$answer" >"$work/seed.$1"
    code "$1" -1 | cli factor confirm "$1" "$(jq -r .factor_id <<<"$answer")"
}

# ldap URL NAME PASSWORD: with StartTLS or LDAPS, the gateway's certificate checked.
ldap() {
    local starttls=()
    [[ $1 == ldaps:* ]] || starttls=(-ZZ)
    LDAPTLS_CACERT=$work/secrets/ca/ca.crt ldapwhoami -x "${starttls[@]}" -o nettimeout=10 -H "$1" -D "$2" -w "$3"
}

# radius SERVER SECRET NAME PASSWORD [STATE]: prints what radclient saw.
radius() {
    {
        printf 'User-Name = "%s"\nUser-Password = "%s"\nMessage-Authenticator = 0x00\n' "$3" "$4"
        [ -z "${5:-}" ] || printf 'State = %s\n' "$5"
    } | radclient -x -r 1 -t 8 "$1" auth "$2" 2>&1
}

# The answer is 49, and not that something else is broken.
denied() {
    local output
    output=$(ldap "$@" 2>&1) && return 1
    printf '%s\n' "$output"
    grep -q 'Invalid credentials (49)' <<<"$output"
}

# radius, and the reply is this one.
gives() { # WORD COMMAND...
    local word=$1 output
    shift
    output=$("$@" || true)
    printf '%s\n' "$output"
    grep -q "Received $word" <<<"$output"
}

# Logins through two nodes of both gateways, right and wrong.
#   both_gateways RADIUS_1 RADIUS_2 LDAP_1 LDAP_2 LDAPS SECRET
both_gateways() {
    local radius_1=$1 radius_2=$2 ldap_1=$3 ldap_2=$4 ldaps=$5 secret=$6 ann password challenge continued
    ann="uid=ann.archer,ou=engineering,ou=people,dc=acme,dc=example"
    for person in ann.archer clara.osborn emma.irwin greta.cole; do check "$person enrols an app and proves a code" enrol "$person"; done

    password="Sesame-ann.archer,$(code ann.archer 0)"
    check "LDAP by DN with the right code" ldap "$ldap_1" "$ann" "$password"
    check "LDAP: the same code again, at the other node" denied "$ldap_2" "$ann" "$password"
    check "LDAP without a code" denied "$ldap_1" "$ann" Sesame-ann.archer
    check "LDAP by bare name with the next code, at the other node" ldap "$ldap_2" ann.archer "Sesame-ann.archer,$(code ann.archer 1)"
    check "LDAP with a wrong password" denied "$ldap_1" clara.osborn "Nonsense,$(code clara.osborn 0)"
    check "LDAPS" ldap "$ldaps" clara.osborn "Sesame-clara.osborn,$(code clara.osborn 0)"

    password="Sesame-emma.irwin,$(code emma.irwin 0)"
    check "RADIUS with password and code" gives Access-Accept radius "$radius_1" "$secret" emma.irwin "$password"
    check "RADIUS: the same code again, at the other node" gives Access-Reject radius "$radius_2" "$secret" emma.irwin "$password"
    check "RADIUS with a wrong password" gives Access-Reject radius "$radius_1" "$secret" greta.cole Nonsense
    challenge=$(radius "$radius_1" "$secret" greta.cole Sesame-greta.cole)
    check "RADIUS with the password alone gives a challenge" grep -q "Received Access-Challenge" <<<"$challenge"
    continued=$(sed -n 's/^[[:space:]]*State = \(0x[0-9a-f]*\).*/\1/p' <<<"$challenge" | tail -n 1)
    check "and the other node takes the answer" gives Access-Accept radius "$radius_2" "$secret" greta.cole "$(code greta.cole 0)" "$continued"
}
