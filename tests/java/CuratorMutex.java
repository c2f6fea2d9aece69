// A contender of Curator's InterProcessMutex that does what its standard input says, one command a line, and answers on
// its standard output, one line each. It proves exclusion by itself: while it holds the mutex it keeps a witness node that
// only one holder can create.
//
//   arguments          connect string, lock path, witness path
//   acquire <ms>       -> acquired <lock node> <czxid> | timeout
//   reenter            -> reentered
//   release            -> released        (one level; the witness goes with the last)
//   participants       -> participants <node>...
//   revocable          -> revocable       (must come before acquire; "revoke asked" is printed when somebody asks)
//   revoke <lock node> -> revoke sent
//   quit               -> bye
//
// Anything that fails is answered by "failed <why>".

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.Revoker;
import org.apache.curator.retry.RetryOneTime;
import org.apache.zookeeper.CreateMode;

public final class CuratorMutex {
    private static final int SESSION_TIMEOUT_MS = 30_000;
    private static final int CONNECTION_TIMEOUT_MS = 15_000;

    private final CuratorFramework client;
    private final Mutex mutex;
    private final String witness;
    private int levels;

    /** Lets us see the lock node, which Curator shows only to subclasses. */
    private static final class Mutex extends InterProcessMutex {
        Mutex(CuratorFramework client, String path) {
            super(client, path);
        }

        String node() {
            return getLockPath();
        }
    }

    private CuratorMutex(CuratorFramework client, String path, String witness) {
        this.client = client;
        this.mutex = new Mutex(client, path);
        this.witness = witness;
    }

    private static synchronized void say(String line) {
        System.out.println(line);
        System.out.flush();
    }

    private String obey(String[] words) throws Exception {
        switch (words[0]) {
            case "acquire":
                if (!mutex.acquire(Long.parseLong(words[1]), TimeUnit.MILLISECONDS)) {
                    return "timeout";
                }
                levels++;
                if (levels == 1) {
                    client.create().withMode(CreateMode.EPHEMERAL).forPath(witness);
                }
                long czxid = client.checkExists().forPath(mutex.node()).getCzxid();
                return "acquired " + mutex.node() + " " + czxid;
            case "reenter":
                mutex.acquire();
                levels++;
                return "reentered";
            case "release":
                if (levels == 1) {
                    client.delete().forPath(witness);
                }
                mutex.release();
                levels--;
                return "released";
            case "participants":
                return "participants " + String.join(" ", mutex.getParticipantNodes());
            case "revocable":
                mutex.makeRevocable(lock -> say("revoke asked"));
                return "revocable";
            case "revoke":
                Revoker.attemptRevoke(client, words[1]);
                return "revoke sent";
            default:
                return "failed unknown command " + words[0];
        }
    }

    public static void main(String[] args) throws Exception {
        CuratorFramework client =
                CuratorFrameworkFactory.newClient(args[0], SESSION_TIMEOUT_MS, CONNECTION_TIMEOUT_MS, new RetryOneTime(100));
        client.start();
        if (!client.blockUntilConnected(CONNECTION_TIMEOUT_MS, TimeUnit.MILLISECONDS)) {
            say("failed not connected");
            System.exit(1);
        }
        say("ready");
        CuratorMutex contender = new CuratorMutex(client, args[1], args[2]);
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        String line = commands.readLine();
        while (line != null && !line.equals("quit")) {
            try {
                say(contender.obey(line.split(" ")));
            } catch (Exception e) {
                say("failed " + e);
            }
            line = commands.readLine();
        }
        client.close();
        say("bye");
    }
}
