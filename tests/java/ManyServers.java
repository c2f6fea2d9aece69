// Starts one Apache ZooKeeper after another in one JVM, so that a test which needs hundreds of fresh ones does not wait a
// second for each. Not for judging: a server started here shares static state with those before it.
//
//   start <zoo.cfg>   -> started         (ends the one before it)
//   quit              -> bye
//
// Anything that fails is answered by "failed <why>".

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import org.apache.zookeeper.server.ServerConfig;
import org.apache.zookeeper.server.ZooKeeperServerMain;

public final class ManyServers {
    /** Lets us end a server, which only subclasses may. */
    private static final class Server extends ZooKeeperServerMain {
        void end() {
            shutdown();
        }
    }

    private static Server server;
    private static Thread thread;

    private static void end() throws InterruptedException {
        if (server != null) {
            server.end();
            thread.join();
            server = null;
        }
    }

    private static void start(String path) throws Exception {
        end();
        ServerConfig config = new ServerConfig();
        config.parse(path);
        Server next = new Server();
        Thread runs = new Thread(() -> {
            try {
                next.runFromConfig(config);
            } catch (Exception e) {
                System.out.println("failed " + e);
            }
        });
        runs.start();
        server = next;
        thread = runs;
    }

    public static void main(String[] args) throws Exception {
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        String line = commands.readLine();
        while (line != null && !line.equals("quit")) {
            try {
                start(line.substring("start ".length()));
                System.out.println("started");
            } catch (Exception e) {
                System.out.println("failed " + e);
            }
            line = commands.readLine();
        }
        end();
        System.out.println("bye");
    }
}
