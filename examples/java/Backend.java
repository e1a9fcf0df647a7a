// A backend that has its event streams held by a gateway. Java 17, no dependencies.
//
// It answers the gateway's callbacks, remembers which streams are whose, and reaches
// them with plain HTTP requests to the gateway.

import com.sun.net.httpserver.Headers;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.OutputStream;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.URLDecoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executors;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

public class Backend {
    record Answer(int status, String json) {}

    static final int MAX_BODY = 2 << 20; // bytes: many ends at once take up to 1 MiB
    static final Duration PATIENCE = Duration.ofSeconds(10); // that the gateway may take for an answer

    static final int PORT = Integer.parseInt(System.getenv().getOrDefault("PORT", "8000"));
    static final String GATEWAY = System.getenv().getOrDefault("GATEWAY", "http://127.0.0.1:3000");
    // Without one anybody is believed.
    static final String SECRET = System.getenv().getOrDefault("CALLBACK_SIGNING_SECRET", "").replaceFirst("^whsec_", "");

    static final HttpClient client = HttpClient.newBuilder()
        .version(HttpClient.Version.HTTP_1_1).connectTimeout(PATIENCE).build();
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
                Answer answer = call(request("/internal/connections?cursor=" + cursor).timeout(PATIENCE).GET());
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
            case "disconnect" -> streams.remove(string(call, "token")); // may be told twice, which does no harm
            case "disconnects" -> { // many ends at once
                streams.remove(string(call, "events.0.token"));
                for (int i = 1; call.containsKey("events." + i + ".token"); i++) {
                    streams.remove(call.get("events." + i + ".token"));
                }
            }
            default -> { // a 200 would say that it was done
                return new Answer(400, "{\"error\": " + Json.quote("unknown action " + call.get("action")) + "}");
            }
        }
        return new Answer(200, "{}");
    }

    /** A string that a callback has to have. */
    static String string(Map<String, String> call, String path) {
        if (!call.containsKey(path)) {
            throw new IllegalArgumentException("a callback without its " + path);
        }
        return call.get(path);
    }

    static Answer connect(Map<String, String> call) {
        // A real backend looks at a cookie: call.get("request.headers.cookie").
        String token = string(call, "token");
        String name = query(string(call, "request.url"), "name");
        if (name.isEmpty()) {
            return new Answer(401, "{}");
        }
        streams.put(token, name);
        return new Answer(200, """
            {"subject": %s, "topics": ["news"], "events": [{"name": "welcome", "data": %s}]}
            """.formatted(Json.quote(name), Json.quote("Hello, " + name)));
    }

    // What this backend does with the gateway.

    /** Sends to each of a user's streams, and says to how many. */
    static int send(String name, String text) throws IOException {
        int sent = 0;
        for (String token : tokens(name)) {
            int status = post("/internal/send", """
                {"token": %s, "event": {"name": "note", "data": %s}}
                """.formatted(Json.quote(token), Json.quote(text))).status;
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
            Answer answer = call(request("/internal/connections/" + token + "/stream")
                .header("Content-Type", "application/x-ndjson").POST(BodyPublishers.ofByteArrays(lines::iterator)));
            sent += answer.status == 200 ? 1 : 0;
        }
        return sent;
    }

    /** Publishes to all who have the topic. With retain who comes later gets it too, until there is newer news. */
    static Answer publish(String text) throws IOException {
        return post("/internal/publish", """
            {"topic": "news", "event": {"name": "news", "data": %s}, "retain": true}
            """.formatted(Json.quote(text)));
    }

    static List<String> tokens(String name) {
        return streams.entrySet().stream().filter(s -> s.getValue().equals(name)).map(Map.Entry::getKey).toList();
    }

    static Answer post(String path, String json) throws IOException {
        return call(request(path).timeout(PATIENCE).header("Content-Type", "application/json").POST(BodyPublishers.ofString(json)));
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
            byte[] body = exchange.getRequestBody().readNBytes(MAX_BODY + 1);
            Answer answer;
            // One bad request, or a gateway that is away, must not cost more than its answer.
            try {
                answer = body.length <= MAX_BODY ? answer(exchange, new String(body, StandardCharsets.UTF_8)) : new Answer(413, "{}");
            } catch (IllegalArgumentException | IndexOutOfBoundsException e) {
                answer = new Answer(400, "{\"error\": " + Json.quote("" + e.getMessage()) + "}");
            } catch (IOException e) {
                System.out.println("the gateway cannot be reached: " + e);
                answer = new Answer(502, "{\"error\": " + Json.quote(e.toString()) + "}");
            }
            exchange.getRequestBody().transferTo(OutputStream.nullOutputStream()); // so that the client gets its answer
            byte[] json = answer.json.getBytes(StandardCharsets.UTF_8);
            exchange.getResponseHeaders().set("Content-Type", "application/json");
            exchange.sendResponseHeaders(answer.status, json.length);
            exchange.getResponseBody().write(json);
        }
    }

    static Answer answer(HttpExchange exchange, String body) throws IOException {
        String name = query(exchange.getRequestURI().toString(), "name");
        return switch (exchange.getRequestMethod() + " " + exchange.getRequestURI().getPath()) {
            case "POST /callback" -> // for the gateway only: do not let others reach it
                isSigned(exchange.getRequestHeaders(), body) ? callback(Json.parse(body)) : new Answer(401, "{}");
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
        private static final Pattern LITERAL = Pattern.compile("true|false|null|-?[0-9][0-9.eE+-]*");

        private final Map<String, String> strings = new TreeMap<>();
        private final String text;
        private int at;

        private Json(String text) {
            this.text = text;
        }

        /** All strings of an object and of what is in it, by path: "request.url", "connections.0.token". */
        static Map<String, String> parse(String text) {
            Json json = new Json(text.strip());
            json.value("", 0);
            if (json.at < json.text.length()) {
                throw new IllegalArgumentException("more behind the JSON");
            }
            return json.strings;
        }

        static String quote(String s) {
            StringBuilder quoted = new StringBuilder("\"");
            for (char c : s.toCharArray()) {
                quoted.append(c < ' ' || c == '"' || c == '\\' ? "\\u%04x".formatted((int) c) : String.valueOf(c));
            }
            return quoted.append('"').toString();
        }

        private void value(String path, int depth) {
            if (depth > 100) {
                throw new IllegalArgumentException("nested too deeply");
            }
            switch (next()) {
                case '{' -> {
                    at++;
                    for (boolean more = next() != '}'; more; more = comma()) {
                        String name = string();
                        expect(':');
                        value(path.isEmpty() ? name : path + "." + name, depth + 1);
                    }
                    expect('}');
                }
                case '[' -> {
                    at++;
                    boolean more = next() != ']';
                    for (int i = 0; more; i++, more = comma()) {
                        value(path + "." + i, depth + 1);
                    }
                    expect(']');
                }
                case '"' -> strings.put(path, string());
                default -> {
                    Matcher literal = LITERAL.matcher(text).region(at, text.length());
                    if (!literal.lookingAt()) {
                        throw new IllegalArgumentException("no JSON at " + at);
                    }
                    at = literal.end();
                }
            }
        }

        private String string() {
            StringBuilder s = new StringBuilder();
            for (expect('"'); text.charAt(at) != '"'; at++) {
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

        private void expect(char c) {
            if (next() != c) {
                throw new IllegalArgumentException("no JSON at " + at + ": " + c + " is missing");
            }
            at++;
        }

        private boolean comma() {
            boolean is = next() == ',';
            at += is ? 1 : 0;
            return is;
        }
    }
}
