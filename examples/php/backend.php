<?php

// A backend that has its event streams held by a gateway. PHP, no extensions.
//
// It answers the gateway's callbacks, remembers which streams are whose, and reaches
// them with plain HTTP requests to the gateway. PHP never holds a stream open itself.

declare(strict_types=1);

define('GATEWAY', getenv('GATEWAY') ?: 'http://127.0.0.1:3000');
define('SECRET', getenv('CALLBACK_SIGNING_SECRET') ?: ''); // without one anybody is believed

const MAX_BODY = 2 << 20; // bytes: many ends at once take up to 1 MiB

/** A callback that is none. */
class Malformed extends Exception
{
}

// One small file for each open stream: its name is the token, its content whose it is.
// A real backend has a table for that.
define('STREAMS', sys_get_temp_dir() . '/streams-' . (getenv('PORT') ?: '8000'));
is_dir(STREAMS) || @mkdir(STREAMS, 0700) || is_dir(STREAMS) || exit(1);

/**
 * Writes down the streams that there are, and forgets those that ended unseen. The files outlive a restart, so
 * this is for a table that is new, or was away for so long that the gateway gave its callbacks up.
 */
function remember(): void
{
    $open = [];
    for ($cursor = ''; $cursor !== null; $cursor = $page['next_cursor'] ?? null) {
        [$status, $page] = call('GET', "/internal/connections?cursor=$cursor");
        if ($status !== 200) {
            throw new RuntimeException("the gateway answered $status: " . json_encode($page));
        }
        foreach ($page['connections'] as $connection) {
            if ($connection['state'] === 'open') {
                $open[$connection['token']] = $connection['subject'];
            }
        }
    }
    foreach (array_diff_key(streams(), $open) as $token => $name) {
        forget($token);
    }
    foreach ($open as $token => $name) {
        file_put_contents(path($token), $name);
    }
}

/** Whether a callback comes from the gateway, and is not an old one again (https://www.standardwebhooks.com). */
function isSigned(array $server, string $body): bool
{
    if (SECRET === '') {
        return true;
    }
    ['HTTP_WEBHOOK_ID' => $id, 'HTTP_WEBHOOK_TIMESTAMP' => $sent, 'HTTP_WEBHOOK_SIGNATURE' => $given]
        = $server + array_fill_keys(['HTTP_WEBHOOK_ID', 'HTTP_WEBHOOK_TIMESTAMP', 'HTTP_WEBHOOK_SIGNATURE'], '');
    $key = base64_decode(preg_replace('/^whsec_/', '', SECRET));
    $signature = 'v1,' . base64_encode(hash_hmac('sha256', "$id.$sent.$body", $key, true));
    $equal = array_filter(explode(' ', $given), fn (string $s) => hash_equals($signature, $s));
    return ctype_digit($sent) && abs(time() - (int) $sent) < 300 && $equal !== [];
}

// What the gateway asks and tells. Anything but a 2xx refuses a stream.
function callback(mixed $call): array
{
    $action = is_array($call) ? $call['action'] ?? null : null;
    switch ($action) {
        case 'connect':
            return connect(token($call), url($call));
        case 'disconnect':
            forget(token($call));
            return [200, new stdClass()];
        case 'disconnects': // many ends at once
            $events = is_array($call['events'] ?? null) ? $call['events'] : throw new Malformed('events is no array');
            array_map(forget(...), array_map(token(...), $events));
            return [200, new stdClass()];
        default: // a 200 would say that it was done
            throw new Malformed('unknown action ' . json_encode($action));
    }
}

/** The token in a callback, which is a file's name here. */
function token(mixed $call): string
{
    $token = is_array($call) ? $call['token'] ?? null : null;
    return is_string($token) && preg_match('/^[\w-]{1,100}$/D', $token) ? $token : throw new Malformed('a callback without its token');
}

function url(array $call): string
{
    $url = is_array($call['request'] ?? null) ? $call['request']['url'] ?? null : null;
    return is_string($url) ? $url : throw new Malformed('a callback without its request');
}

function connect(string $token, string $url): array
{
    // A real backend looks at a cookie in the request's headers.
    parse_str(explode('?', $url, 2)[1] ?? '', $query);
    $name = $query['name'] ?? '';
    if (!is_string($name) || $name === '') {
        return [401, new stdClass()];
    }
    file_put_contents(path($token), $name);
    return [200, [
        'subject' => $name,
        'topics' => ['news'],
        'events' => [['name' => 'welcome', 'data' => "Hello, $name"]],
    ]];
}

/** Forgets a stream. The gateway may tell it twice, which does no harm. */
function forget(string $token): void
{
    @unlink(path($token));
}

function path(string $token): string
{
    return STREAMS . '/' . basename($token);
}

/** The streams there are: token => whose it is. */
function streams(): array
{
    $streams = [];
    foreach (glob(STREAMS . '/*') as $file) {
        $name = @file_get_contents($file);
        if ($name !== false) {
            $streams[basename($file)] = $name;
        }
    }
    return $streams;
}

/** POSTs JSON to the gateway and returns [status, answer]. */
function post(string $path, array $value): array
{
    return call('POST', $path, json_encode($value, JSON_THROW_ON_ERROR));
}

function call(string $method, string $path, string $body = ''): array
{
    $answer = @file_get_contents(GATEWAY . $path, false, stream_context_create(['http' => [
        'method' => $method,
        'header' => 'Content-Type: application/json',
        'content' => $body,
        'ignore_errors' => true, // they have a body, too
        'timeout' => 10, // seconds
    ]]));
    if ($answer === false) {
        throw new RuntimeException('the gateway is away');
    }
    return [(int) explode(' ', $http_response_header[0])[1], json_decode($answer, true)];
}

/** Sends to each of a user's streams, and says to how many. */
function send(string $name, string $text): int
{
    $sent = 0;
    foreach (array_keys(streams(), $name, true) as $token) {
        [$status] = post('/internal/send', ['token' => $token, 'event' => ['name' => 'note', 'data' => $text]]);
        if ($status === 404) {
            forget($token); // it has just ended
        }
        $sent += $status === 200 ? 1 : 0;
    }
    return $sent;
}

/** Streams events to one stream, as they come: one request carries all of them. */
function stream(string $token, iterable $events): int
{
    ['host' => $host, 'port' => $port] = parse_url(GATEWAY) + ['port' => 80];
    $gateway = @fsockopen($host, $port, $code, $message, 5) ?: throw new RuntimeException('the gateway is away');
    fwrite($gateway, "POST /internal/connections/$token/stream HTTP/1.1\r\nHost: $host:$port\r\nConnection: close\r\n"
        . "Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n");
    foreach ($events as $event) {
        $line = json_encode($event, JSON_THROW_ON_ERROR) . "\n";
        if (@fwrite($gateway, dechex(strlen($line)) . "\r\n$line\r\n") === false) {
            break; // the reader has left
        }
    }
    @fwrite($gateway, "0\r\n\r\n");
    $status = (int) (explode(' ', (string) fgets($gateway))[1] ?? 0);
    fclose($gateway);
    return $status;
}

function words(string $text): iterable
{
    foreach (preg_split('/\s+/', $text, -1, PREG_SPLIT_NO_EMPTY) as $word) {
        yield ['name' => 'word', 'data' => $word];
    }
}

// `php backend.php`, before the server starts.

if (PHP_SAPI === 'cli') {
    for (;;) {
        try {
            remember();
            exit;
        } catch (RuntimeException $e) { // without the gateway it waits: it cannot know
            fwrite(STDERR, "waiting for the gateway: {$e->getMessage()}\n");
            sleep(1);
        }
    }
}

// The application's own pages.

$name = is_string($_GET['name'] ?? null) ? $_GET['name'] : '';
$body = file_get_contents('php://input');
// One bad request, or a gateway that is away, must not cost more than its answer.
$failure = fn (Throwable $e) => ['error' => $e->getMessage()];

try {
    if (max(strlen($body), (int) ($_SERVER['CONTENT_LENGTH'] ?? 0)) > MAX_BODY) {
        throw new LengthException('the body is too large');
    }
    switch ($_SERVER['REQUEST_METHOD'] . ' ' . parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH)) {
        case 'POST /callback': // for the gateway only: do not let others reach it
            [$status, $answer] = isSigned($_SERVER, $body)
                ? callback(json_decode($body, true, 512, JSON_THROW_ON_ERROR))
                : [401, new stdClass()];
            break;
        case 'POST /send':
            $sent = send($name, $body);
            [$status, $answer] = [$sent ? 200 : 404, ['sent' => $sent]];
            break;
        case 'POST /stream':
            $sent = 0;
            foreach (array_keys(streams(), $name, true) as $token) {
                $sent += stream($token, words($body)) === 200 ? 1 : 0;
            }
            [$status, $answer] = [$sent ? 200 : 404, ['sent' => $sent]];
            break;
        case 'POST /publish':
            // With retain who comes later gets it too, until there is newer news.
            [$status, $answer] = post('/internal/publish', [
                'topic' => 'news',
                'event' => ['name' => 'news', 'data' => $body],
                'retain' => true,
            ]);
            break;
        case 'GET /streams':
            $answer = array_values(streams());
            sort($answer);
            $status = 200;
            break;
        default:
            [$status, $answer] = [404, new stdClass()];
    }
} catch (JsonException | Malformed $e) {
    [$status, $answer] = [400, $failure($e)];
} catch (LengthException $e) {
    [$status, $answer] = [413, $failure($e)];
} catch (RuntimeException $e) {
    error_log("the gateway cannot be reached: {$e->getMessage()}");
    [$status, $answer] = [502, $failure($e)];
}

http_response_code($status);
header('Content-Type: application/json');
echo json_encode($answer, JSON_THROW_ON_ERROR);
