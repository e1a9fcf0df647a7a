// A backend that has its event streams held by a gateway. Java 17, no dependencies.
//
// It answers the gateway's callbacks, remembers which streams are whose, and reaches
// them with plain HTTP requests to the gateway.

import com.sun.net.httpserver.Headers;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.URLDecoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executors;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

public class Backend {
    record Answer(int status, String json) {}

    static final int PORT = Integer.parseInt(System.getenv().getOrDefault("PORT", "8000"));
    static final String GATEWAY = System.getenv().getOrDefault("GATEWAY", "http://127.0.0.1:3000");
    // Without one anybody is believed.
    static final String SECRET = System.getenv().getOrDefault("CALLBACK_SIGNING_SECRET", "").replaceFirst("^whsec_", "");

    static final HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
    static final Map<String, String> streams = new ConcurrentHashMap<>(); // token of an open stream: whose it is

    public static void main(String[] args) throws Exception {
        remember(); // before it listens: a disconnect that is told of meanwhile comes again later
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", PORT), 0);
        server.createContext("/", Backend::serve);
        server.setExecutor(Executors.newCachedThreadPool());
        server.start();
        System.out.println("listening on http://127.0.0.1:" + PORT);
    }

    /** Gets the streams that were opened before this process began. Without the gateway it waits: it cannot know. */
    static void remember() throws InterruptedException {
        for (String cursor = ""; cursor != null;) {
            try {
                Answer answer = call(request("/internal/connections?cursor=" + cursor).GET());
                if (answer.status != 200) {
                    throw new IOException("the gateway answered " + answer.status + ": " + answer.json);
                }
                Map<String, String> page = Json.parse(answer.json);
                for (int i = 0; page.containsKey("connections." + i + ".token"); i++) {
                    String connection = "connections." + i + ".";
                    if (page.get(connection + "state").equals("open")) {
                        streams.put(page.get(connection + "token"), page.get(connection + "subject"));
                    }
                }
                cursor = page.get("next_cursor");
            } catch (IOException e) {
                System.out.println("waiting for the gateway: " + e);
                Thread.sleep(1000);
            }
        }
    }

    // What the gateway asks and tells. Anything but a 2xx refuses a stream.

    /** Whether a callback comes from the gateway, and is not an old one again (https://www.standardwebhooks.com). */
    static boolean isSigned(Headers headers, String body) {
        String sent = headers.getFirst("webhook-timestamp");
        String given = headers.getFirst("webhook-signature");
        if (SECRET.isEmpty()) {
            return true;
        }
        if (sent == null || given == null || Math.abs(System.currentTimeMillis() / 1000 - Long.parseLong(sent)) > 300) {
            return false;
        }
        try {
            Mac hmac = Mac.getInstance("HmacSHA256");
            hmac.init(new SecretKeySpec(Base64.getDecoder().decode(SECRET), "HmacSHA256"));
            byte[] signed = (headers.getFirst("webhook-id") + "." + sent + "." + body).getBytes(StandardCharsets.UTF_8);
            byte[] signature = ("v1," + Base64.getEncoder().encodeToString(hmac.doFinal(signed))).getBytes(StandardCharsets.UTF_8);
            return Stream.of(given.split(" ")).anyMatch(s -> MessageDigest.isEqual(signature, s.getBytes(StandardCharsets.UTF_8)));
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException(e); // every JDK has it
        }
    }

    static Answer callback(Map<String, String> call) {
        switch (call.getOrDefault("action", "")) {
            case "connect" -> {
                return connect(call);
            }
            case "disconnect" -> streams.remove(call.get("token")); // may be told twice, which does no harm
            case "disconnects" -> { // many ends at once
                for (int i = 0; call.containsKey("events." + i + ".token"); i++) {
                    streams.remove(call.get("events." + i + ".token"));
                }
            }
            default -> { // a 200 would say that it was done
                return new Answer(400, "{\"error\": " + Json.quote("unknown action " + call.get("action")) + "}");
            }
        }
        return new Answer(200, "{}");
    }

    static Answer connect(Map<String, String> call) {
        // A real backend looks at a cookie: call.get("request.headers.cookie").
        String name = query(call.get("request.url"), "name");
        if (name.isEmpty()) {
            return new Answer(401, "{}");
        }
        streams.put(call.get("token"), name);
        return new Answer(200, """
            {"subject": %s, "topics": ["news"], "events": [{"name": "welcome", "data": %s}]}
            """.formatted(Json.quote(name), Json.quote("Hello, " + name)));
    }

    // What this backend does with the gateway.

    /** Sends to each of a user's streams, and says to how many. */
    static int send(String name, String text) throws IOException {
        int sent = 0;
        for (String token : tokens(name)) {
            int status = post("/internal/send", "application/json", BodyPublishers.ofString("""
                {"token": "%s", "event": {"name": "note", "data": %s}}
                """.formatted(token, Json.quote(text)))).status;
            if (status == 404) {
                streams.remove(token); // it has just ended
            }
            sent += status == 200 ? 1 : 0;
        }
        return sent;
    }

    /** Streams words to each of a user's streams: one request carries all events, each goes out as it comes. */
    static int stream(String name, String text) throws IOException {
        int sent = 0;
        for (String token : tokens(name)) {
            Stream<byte[]> lines = text.lines().flatMap(line -> Stream.of(line.split("\\s+")))
                .map(word -> "{\"name\": \"word\", \"data\": " + Json.quote(word) + "}\n")
                .map(line -> line.getBytes(StandardCharsets.UTF_8));
            Answer answer = post("/internal/connections/" + token + "/stream", "application/x-ndjson",
                BodyPublishers.ofByteArrays(lines::iterator));
            sent += answer.status == 200 ? 1 : 0;
        }
        return sent;
    }

    /** Publishes to all who have the topic. With retain who comes later gets it too, until there is newer news. */
    static Answer publish(String text) throws IOException {
        return post("/internal/publish", "application/json", BodyPublishers.ofString("""
            {"topic": "news", "event": {"name": "news", "data": %s}, "retain": true}
            """.formatted(Json.quote(text))));
    }

    static List<String> tokens(String name) {
        return streams.entrySet().stream().filter(s -> s.getValue().equals(name)).map(Map.Entry::getKey).toList();
    }

    static Answer post(String path, String contentType, BodyPublisher body) throws IOException {
        return call(request(path).header("Content-Type", contentType).POST(body));
    }

    static HttpRequest.Builder request(String path) {
        return HttpRequest.newBuilder(URI.create(GATEWAY + path));
    }

    static Answer call(HttpRequest.Builder request) throws IOException {
        try {
            var response = client.send(request.build(), BodyHandlers.ofString());
            return new Answer(response.statusCode(), response.body());
        } catch (InterruptedException e) {
            throw new IOException(e);
        }
    }

    // The application's own HTTP server.

    static void serve(HttpExchange exchange) throws IOException {
        try (exchange) {
            String body = new String(exchange.getRequestBody().readAllBytes(), StandardCharsets.UTF_8);
            String name = query(exchange.getRequestURI().toString(), "name");
            Answer answer;
            try {
                answer = answer(exchange, name, body);
            } catch (IllegalArgumentException | IndexOutOfBoundsException e) {
                answer = new Answer(400, "{}"); // the body is no JSON
            } catch (IOException e) {
                answer = new Answer(502, "{}"); // the gateway is away
            }
            byte[] json = answer.json.getBytes(StandardCharsets.UTF_8);
            exchange.getResponseHeaders().set("Content-Type", "application/json");
            exchange.sendResponseHeaders(answer.status, json.length);
            exchange.getResponseBody().write(json);
        }
    }

    static Answer answer(HttpExchange exchange, String name, String body) throws IOException {
        return switch (exchange.getRequestMethod() + " " + exchange.getRequestURI().getPath()) {
            case "POST /callback" -> { // for the gateway only: do not let others reach it
                Map<String, String> call = Json.parse(body);
                yield isSigned(exchange.getRequestHeaders(), body) ? callback(call) : new Answer(401, "{}");
            }
            case "POST /send" -> count(send(name, body));
            case "POST /stream" -> count(stream(name, body));
            case "POST /publish" -> publish(body);
            case "GET /streams" -> new Answer(200,
                streams.values().stream().sorted().map(Json::quote).collect(Collectors.joining(",", "[", "]")));
            default -> new Answer(404, "{}");
        };
    }

    static Answer count(int sent) {
        return new Answer(sent > 0 ? 200 : 404, "{\"sent\":" + sent + "}");
    }

    /** A parameter of a URL, or "". */
    static String query(String url, String name) {
        int start = url.indexOf('?');
        if (start >= 0) {
            for (String pair : url.substring(start + 1).split("&")) {
                if (pair.startsWith(name + "=")) {
                    return URLDecoder.decode(pair.substring(name.length() + 1), StandardCharsets.UTF_8);
                }
            }
        }
        return "";
    }

    /** The little JSON that is needed here, since the JDK has none. Use your JSON library. */
    static class Json {
        private final Map<String, String> strings = new TreeMap<>();
        private final String text;
        private int at;

        private Json(String text) {
            this.text = text;
        }

        /** All strings of an object and of what is in it, by path: "request.url", "connections.0.token". */
        static Map<String, String> parse(String text) {
            Json json = new Json(text);
            json.value("");
            return json.strings;
        }

        static String quote(String s) {
            StringBuilder quoted = new StringBuilder("\"");
            for (char c : s.toCharArray()) {
                quoted.append(c < ' ' || c == '"' || c == '\\' ? "\\u%04x".formatted((int) c) : String.valueOf(c));
            }
            return quoted.append('"').toString();
        }

        private void value(String path) {
            switch (next()) {
                case '{' -> {
                    for (at++; next() != '}'; skip(',')) {
                        String name = string();
                        skip(':');
                        value(path.isEmpty() ? name : path + "." + name);
                    }
                    at++;
                }
                case '[' -> {
                    at++;
                    for (int i = 0; next() != ']'; i++, skip(',')) {
                        value(path + "." + i);
                    }
                    at++;
                }
                case '"' -> strings.put(path, string());
                default -> { // a number, true, false, null
                    while (at < text.length() && ",]}".indexOf(text.charAt(at)) < 0) {
                        at++;
                    }
                }
            }
        }

        private String string() {
            StringBuilder s = new StringBuilder();
            for (skip('"'); text.charAt(at) != '"'; at++) {
                char c = text.charAt(at);
                if (c == '\\') {
                    c = text.charAt(++at);
                    switch (c) {
                        case 'n' -> c = '\n';
                        case 't' -> c = '\t';
                        case 'r' -> c = '\r';
                        case 'b' -> c = '\b';
                        case 'f' -> c = '\f';
                        case 'u' -> {
                            c = (char) Integer.parseInt(text.substring(at + 1, at + 5), 16);
                            at += 4;
                        }
                        default -> { } // itself: a quote, a slash, a backslash
                    }
                }
                s.append(c);
            }
            at++;
            return s.toString();
        }

        private char next() {
            while (Character.isWhitespace(text.charAt(at))) {
                at++;
            }
            return text.charAt(at);
        }

        private void skip(char c) {
            if (next() == c) {
                at++;
            }
        }
    }
}
