import ai.djl.engine.Engine;
import ai.djl.inference.Predictor;
import ai.djl.inference.streaming.ChunkedBytesSupplier;
import ai.djl.modality.Input;
import ai.djl.modality.Output;
import ai.djl.ndarray.BytesSupplier;
import ai.djl.repository.zoo.Criteria;
import ai.djl.repository.zoo.ZooModel;
import ai.djl.translate.TranslateException;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;

/**
 * Models under DJL's Python engine behind HTTP on 127.0.0.1, as DJL Serving would run each of them.
 *
 * <p>Arguments: a port, then the folders of unpacked bundles; a folder's last name is the model's name. The
 * engine, the worker processes and djl_python are DJL's own. What is written here is the part of the server that
 * Maven Central does not have: where options come from, and how an Output becomes an HTTP answer.
 *
 * <pre>
 * POST /NAME/invocations                the container's own endpoint
 * POST /endpoints/NAME/invocations      the same under the path that boto3 calls
 * GET  /NAME/ping                       500 once the worker has failed too often
 * </pre>
 */
class DjlHost {
    static final int CHUNKED_READ_TIMEOUT_S = Integer.getInteger("chunked_read_timeout", 120);

    public static void main(String[] arguments) throws Exception {
        endWithParent();
        Engine.getEngine("Python"); // made on first use, which is no matter for several threads
        List<Path> folders = List.of(arguments).subList(1, arguments.length).stream().map(Path::of).toList();
        List<CompletableFuture<Served>> loading =
                folders.stream().map(folder -> CompletableFuture.supplyAsync(() -> Served.load(folder))).toList();
        Map<String, Served> models = new HashMap<>();
        for (CompletableFuture<Served> one : loading) {
            Served served = one.get();
            models.put(served.name, served);
        }
        // Like DJL Serving, it listens when everything is loaded.
        int port = Integer.parseInt(arguments[0]);
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", port), 128);
        server.setExecutor(Executors.newCachedThreadPool());
        server.createContext("/", exchange -> route(exchange, models));
        server.start();
        System.out.println("listening");
    }

    /** The tests hold the other end of the standard input: when they are gone, so is this. */
    static void endWithParent() {
        Thread watch = new Thread(() -> {
            try {
                while (System.in.read() != -1) {
                }
            } catch (IOException ended) {
                // as good as the end of the stream
            }
            Runtime.getRuntime().halt(1);
        });
        watch.setDaemon(true);
        watch.start();
    }

    static void route(HttpExchange exchange, Map<String, Served> models) throws IOException {
        String[] path = exchange.getRequestURI().getPath().substring(1).split("/");
        Served model = path.length < 2 ? null : models.get("endpoints".equals(path[0]) ? path[1] : path[0]);
        if (model == null) {
            send(exchange, 404, "{\"code\":404}");
        } else if (path[path.length - 1].equals("ping")) {
            boolean healthy = model.healthy();
            send(exchange, healthy ? 200 : 500, "{\"" + model.name + "\":\"" + (healthy ? "Healthy" : "FAILED") + "\"}");
        } else {
            model.invoke(exchange);
        }
    }

    static void send(HttpExchange exchange, int status, String body) throws IOException {
        byte[] bytes = body.getBytes(StandardCharsets.UTF_8);
        exchange.getResponseHeaders().set("Content-Type", "application/json");
        exchange.sendResponseHeaders(status, bytes.length);
        exchange.getResponseBody().write(bytes);
        exchange.close();
    }

    /** One model and its one worker. */
    static class Served {
        final String name;
        private final ZooModel<Input, Output> model;
        private final Predictor<Input, Output> predictor;

        private Served(String name, ZooModel<Input, Output> model) {
            this.name = name;
            this.model = model;
            this.predictor = model.newPredictor();
        }

        static Served load(Path folder) {
            String name = folder.getFileName().toString();
            Criteria.Builder<Input, Output> criteria =
                    Criteria.builder()
                            .setTypes(Input.class, Output.class)
                            .optModelPath(folder)
                            .optModelName(name)
                            .optEngine("Python");
            try {
                environmentOptions(folder).forEach(criteria::optOption);
                return new Served(name, criteria.build().loadModel());
            } catch (Exception e) {
                throw new IllegalStateException(e);
            }
        }

        /**
         * Options from OPTION_ variables, as the server's ModelInfo takes them: in small letters, and only where
         * serving.properties does not set them. A file FOLDER.env stands for the environment of one container.
         */
        static Map<String, String> environmentOptions(Path folder) throws IOException {
            Properties file = read(folder.resolve("serving.properties"));
            Map<String, String> environment = new HashMap<>(System.getenv());
            Path own = folder.resolveSibling(folder.getFileName() + ".env");
            if (Files.exists(own)) {
                read(own).forEach((key, value) -> environment.put((String) key, (String) value));
            }
            Map<String, String> options = new HashMap<>();
            environment.forEach((key, value) -> {
                if (key.startsWith("OPTION_") && !value.isEmpty()) {
                    String option = key.substring("OPTION_".length()).toLowerCase(Locale.ROOT);
                    if (!file.containsKey("option." + option)) {
                        options.put(option, value);
                    }
                }
            });
            return options;
        }

        private static Properties read(Path path) throws IOException {
            Properties properties = new Properties();
            try (InputStream stream = Files.newInputStream(path)) {
                properties.load(stream);
            }
            return properties;
        }

        boolean healthy() {
            return model.intProperty("failed", 0) <= model.intProperty("retry_threshold", 0);
        }

        void invoke(HttpExchange exchange) throws IOException {
            if (!healthy()) {
                send(exchange, 503, "{\"code\":503,\"message\":\"Model is not ready\"}");
                return;
            }
            Input input = new Input();
            exchange.getRequestHeaders().forEach((key, values) -> input.addProperty(key, values.get(0)));
            input.add("data", exchange.getRequestBody().readAllBytes());
            Output output;
            try {
                synchronized (predictor) { // a worker thread of the server has its predictor for itself
                    output = predictor.predict(input);
                }
            } catch (TranslateException | RuntimeException e) {
                send(exchange, 400, "{\"code\":400,\"type\":\"TranslateException\"}");
                return;
            }
            relay(exchange, output);
        }

        /** Headers go out with the first chunk, whose status counts; a first chunk that is the last has a length. */
        private static void relay(HttpExchange exchange, Output output) throws IOException {
            if (!(output.getData() instanceof ChunkedBytesSupplier)) {
                BytesSupplier data = output.getData();
                answer(exchange, output, data == null ? new byte[0] : data.getAsBytes());
                return;
            }
            ChunkedBytesSupplier chunks = (ChunkedBytesSupplier) output.getData();
            OutputStream body = null;
            try {
                while (chunks.hasNext()) {
                    byte[] chunk = chunks.nextChunk(CHUNKED_READ_TIMEOUT_S, TimeUnit.SECONDS);
                    if (body == null && !chunks.hasNext()) {
                        answer(exchange, output, chunk);
                        return;
                    }
                    if (body == null) {
                        headers(exchange, output);
                        exchange.sendResponseHeaders(output.getCode(), 0);
                        body = exchange.getResponseBody();
                    }
                    try {
                        body.write(chunk);
                        body.flush();
                    } catch (IOException gone) {
                        // The server reads on to the last chunk when its client has left.
                    }
                }
                body.close();
            } catch (InterruptedException | IllegalStateException silent) {
                throw new IOException("chunk reading interrupted"); // breaks the connection, as a reset would
            }
        }

        private static void answer(HttpExchange exchange, Output output, byte[] body) throws IOException {
            String reason = output.getMessage() == null ? "" : output.getMessage();
            boolean printable = reason.indexOf('\n') < 0 && reason.indexOf('\r') < 0;
            headers(exchange, output);
            int status = printable ? output.getCode() : 500; // as Netty refuses such a reason phrase
            exchange.sendResponseHeaders(status, body.length == 0 ? -1 : body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        }

        private static void headers(HttpExchange exchange, Output output) {
            output.getProperties().forEach(exchange.getResponseHeaders()::set);
        }
    }
}
