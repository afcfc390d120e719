// What Jenkins does at a sign-in, step for step, by what it speaks LDAP with: Java's own JNDI, its pool for the manager included.
//
// Settings come as properties on stdin; what happened at each step goes to stdout as JSON.
import java.io.FileInputStream;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.ArrayList;
import java.util.Hashtable;
import java.util.List;
import java.util.Properties;
import javax.naming.AuthenticationException;
import javax.naming.Context;
import javax.naming.NamingEnumeration;
import javax.naming.NamingException;
import javax.naming.directory.DirContext;
import javax.naming.directory.SearchControls;
import javax.naming.directory.SearchResult;
import javax.naming.ldap.InitialLdapContext;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

public class BindSearchBind {
    private static final Properties GIVEN = new Properties();
    private static final List<Integer> STEPS = new ArrayList<>();

    public static void main(String[] none) throws Exception {
        GIVEN.load(System.in);
        trust(GIVEN.getProperty("ca"));
        boolean in = jenkins();
        System.out.println("{\"in\": " + in + ", \"steps\": " + STEPS + "}");
    }

    /** The manager looks the person up, the person binds on a connection of their own, and the manager asks for their groups. */
    private static boolean jenkins() throws NamingException {
        String person;
        DirContext manager = context(GIVEN.getProperty("account"), GIVEN.getProperty("account_password"), true);
        try {
            person = find(manager, GIVEN.getProperty("base"), "uid={0}", GIVEN.getProperty("uid"));
        } finally {
            manager.close();
        }
        try {
            DirContext own = context(person, GIVEN.getProperty("password"), false);
            own.getAttributes(person).get("sn").get();
            STEPS.add(0);
            own.close();
        } catch (AuthenticationException refused) {
            STEPS.add(49);
            return false;
        }
        manager = context(GIVEN.getProperty("account"), GIVEN.getProperty("account_password"), true);
        try {
            find(manager, GIVEN.getProperty("groups"), "(| (member={0}) (uniqueMember={0}) (memberUid={1}))", person, GIVEN.getProperty("uid"));
        } finally {
            manager.close();
        }
        return true;
    }

    private static DirContext context(String who, String password, boolean pooled) throws NamingException {
        Hashtable<String, String> environment = new Hashtable<>();
        environment.put(Context.INITIAL_CONTEXT_FACTORY, "com.sun.jndi.ldap.LdapCtxFactory");
        environment.put(Context.PROVIDER_URL, "ldaps://127.0.0.1:" + GIVEN.getProperty("port"));
        environment.put(Context.SECURITY_AUTHENTICATION, "simple");
        environment.put(Context.SECURITY_PRINCIPAL, who);
        environment.put(Context.SECURITY_CREDENTIALS, password);
        environment.put("com.sun.jndi.ldap.connect.pool", Boolean.toString(pooled));
        environment.put("com.sun.jndi.ldap.connect.timeout", "5000");
        environment.put("com.sun.jndi.ldap.read.timeout", "60000");
        return new InitialLdapContext(environment, null);
    }

    /** The DN of the only one that is found; null where there is none. */
    private static String find(DirContext manager, String base, String filter, Object... arguments) throws NamingException {
        SearchControls controls = new SearchControls();
        controls.setSearchScope(SearchControls.SUBTREE_SCOPE);
        NamingEnumeration<SearchResult> results = manager.search(base, filter, arguments, controls);
        String found = null;
        while (results.hasMore()) {
            found = results.next().getNameInNamespace();
        }
        STEPS.add(0);
        return found;
    }

    /** Java takes authorities from a store of its own, where an operator puts this certificate. */
    private static void trust(String file) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (FileInputStream pem = new FileInputStream(file)) {
            store.setCertificateEntry("mfa", CertificateFactory.getInstance("X.509").generateCertificate(pem));
        }
        TrustManagerFactory trusted = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trusted.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trusted.getTrustManagers(), null);
        SSLContext.setDefault(context);
    }
}
