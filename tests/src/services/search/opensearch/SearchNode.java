// One OpenSearch node for tests: SearchNode FOLDER HTTP_PORT TRANSPORT_PORT. Ends when its standard input does.
import org.codelibs.opensearch.runner.OpenSearchRunner;

public class SearchNode {
    public static void main(String[] arguments) throws Exception {
        OpenSearchRunner runner = new OpenSearchRunner();
        runner.setMaxHttpPort(-1);
        runner.onBuild((number, settings) -> {
            settings.put("network.host", "127.0.0.1");
            settings.put("http.port", arguments[1]);
            settings.put("transport.port", arguments[2]);
            settings.put("discovery.type", "single-node");
            settings.put("node.processors", 2);
            settings.put("cluster.routing.allocation.disk.threshold_enabled", false);
            settings.putList("node.roles", "cluster_manager", "data", "ingest");
        });
        runner.build(OpenSearchRunner.newConfigs().basePath(arguments[0]).numOfNode(1).clusterName("it"));
        while (System.in.read() != -1) {
        }
        runner.close();
        System.exit(0);
    }
}
