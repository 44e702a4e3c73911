// A real OAuth 2 and OpenID provider on loopback, for tests: `node provider.mjs SETTINGS`.
//
// It is oidc-provider; what is here tells it who its clients are, keeps its keys in a file and its tokens in memory, and
// answers under /test/ what no provider would: other keys, the end of somebody's session, how often it was asked.
// SETTINGS is a JSON file: port, issuer, keys (path of the file they are kept in), clients (as in RFC 7591), resources
// (identifier -> {audience, format, scope}), lifetimes (seconds of access tokens, refresh tokens and sessions).

import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { exportJWK, generateKeyPair } from 'jose';
import { Provider, errors } from 'oidc-provider';

const settings = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const lifetimes = { ...settings.lifetimes };

// -- keys. What is published is in `keys`; `signing` names the one that signs. Both outlive this process.

let ring = existsSync(settings.keys) ? JSON.parse(readFileSync(settings.keys, 'utf8')) : { made: 0, signing: '', keys: [] };

async function makeKey(alg) {
  const { privateKey } = await generateKeyPair(alg, { extractable: true });
  ring.made += 1;
  const key = { ...(await exportJWK(privateKey)), kid: `key-${ring.made}`, alg, use: 'sig' };
  ring.keys.push(key);
  return key;
}

const STEPS = {
  // The order in which a key is replaced without anybody noticing.
  async publish({ alg = 'RS256' }) { await makeKey(alg); },
  sign() { ring.signing = ring.keys.at(-1).kid; },
  drop() { ring.keys = ring.keys.filter((key) => key.kid === ring.signing); },
  // A new key that signs at once: nobody can have seen it before its first token.
  async sudden({ alg = 'RS256' }) { ring.signing = (await makeKey(alg)).kid; },
};

function keepKeys() {
  writeFileSync(`${settings.keys}.new`, JSON.stringify(ring), { mode: 0o600 });
  renameSync(`${settings.keys}.new`, settings.keys);
}

// -- what is issued, in memory: gone when this process is.

const stored = new Map(); // `Kind:id` -> {payload, ends}

class Memory {
  constructor(kind) { this.kind = kind; }

  async upsert(id, payload, seconds) {
    stored.set(`${this.kind}:${id}`, { payload, ends: seconds ? Date.now() + 1000 * seconds : Infinity });
  }

  async find(id) {
    const found = stored.get(`${this.kind}:${id}`);
    return found && found.ends > Date.now() ? found.payload : undefined;
  }

  async findByUid(uid) { return this.first((payload) => payload.uid === uid); }

  async findByUserCode(code) { return this.first((payload) => payload.userCode === code); }

  async first(fits) {
    for (const [key, { payload, ends }] of stored) {
      if (key.startsWith(`${this.kind}:`) && ends > Date.now() && fits(payload)) return payload;
    }
    return undefined;
  }

  async consume(id) { (await this.find(id)).consumed = Math.floor(Date.now() / 1000); }

  async destroy(id) { stored.delete(`${this.kind}:${id}`); }

  async revokeByGrantId(grant) {
    for (const [key, { payload }] of stored) if (payload.grantId === grant) stored.delete(key);
  }
}

// -- the provider. Its keys are its own for life, so other keys are another one over the same memory.

function makeProvider() {
  const signing = ring.keys.find((key) => key.kid === ring.signing);
  const made = new Provider(settings.issuer, {
    adapter: Memory,
    clients: settings.clients,
    clientDefaults: { id_token_signed_response_alg: signing.alg },
    jwks: { keys: ring.keys },
    cookies: { keys: ['only loopback ever sees these cookies'] },
    pkce: { required: () => true },
    scopes: ['openid', 'offline_access'],
    claims: { openid: ['sub'], sid: null },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      introspection: { enabled: true },
      revocation: { enabled: true },
      claimsParameter: { enabled: true },
      userinfo: { enabled: false },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo(ctx, resource) {
          const found = settings.resources[resource];
          if (!found) throw new errors.InvalidTarget();
          return {
            audience: found.audience,
            scope: found.scope,
            accessTokenFormat: found.format,
            accessTokenTTL: lifetimes.access,
            jwt: { sign: { alg: signing.alg, kid: signing.kid } },
          };
        },
      },
    },
    formats: {
      customizers: {
        jwt(ctx, token, { payload }) { payload.sid = token.sid; },
      },
    },
    ttl: {
      AccessToken: (ctx, token) => token.resourceServer?.accessTokenTTL ?? lifetimes.access,
      ClientCredentials: (ctx, token) => token.resourceServer?.accessTokenTTL ?? lifetimes.access,
      AuthorizationCode: 60,
      Grant: lifetimes.session,
      IdToken: 60,
      Interaction: 60,
      RefreshToken: lifetimes.refresh,
      Session: lifetimes.session,
    },
    rotateRefreshToken: true,
    issueRefreshToken: (ctx, client) => client.grantTypeAllowed('refresh_token'),
    findAccount: (ctx, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
    // Whoever logged in has consented to all that his client asks for: these clients are the provider's own.
    async loadExistingGrant(ctx) {
      const known = ctx.oidc.session.grantIdFor(ctx.oidc.client.clientId);
      const grant = (known && (await made.Grant.find(known))) || new made.Grant({
        accountId: ctx.oidc.session.accountId, clientId: ctx.oidc.client.clientId,
      });
      grant.addOIDCScope('openid offline_access');
      grant.addOIDCClaims(['sid']);
      for (const [resource, { scope }] of Object.entries(settings.resources)) grant.addResourceScope(resource, scope);
      await grant.save();
      return grant;
    },
    interactions: { url: (ctx, interaction) => `/test/login/${interaction.uid}` },
    renderError(ctx, out) { ctx.type = 'json'; ctx.body = out; },
  });
  made.on('server_error', (ctx, error) => console.error(error));
  return { made, answer: made.callback() };
}

let current;

// -- what only a test may ask

let counts = {};

const TESTS = {
  ready: () => ({ ready: true }),
  counts: () => counts,
  'counts/reset'() { counts = {}; return {}; },
  async keys({ step, ...given }) {
    await STEPS[step](given);
    keepKeys();
    current = makeProvider();
    return { signing: ring.signing, published: ring.keys.map((key) => key.kid) };
  },
  lifetimes(given) { Object.assign(lifetimes, given); return lifetimes; },
  // The end of a session, as when its user logs out: what was issued in it for keeps goes with it.
  async 'revoke-session'({ sid }) {
    const all = [...stored].filter(([key]) => key.startsWith('Session:'));
    const found = all.find(([, { payload }]) => Object.values(payload.authorizations ?? {}).some((one) => one.sid === sid));
    if (!found) return { ended: false };
    const [key, { payload }] = found;
    stored.delete(key);
    for (const { grantId } of Object.values(payload.authorizations)) {
      stored.delete(`Grant:${grantId}`);
      await new Memory('').revokeByGrantId(grantId);
    }
    return { ended: true };
  },
};

async function bodyOf(request) {
  const pieces = [];
  for await (const piece of request) pieces.push(piece);
  return pieces.length ? JSON.parse(Buffer.concat(pieces).toString()) : {};
}

async function test(name, request, response) {
  if (name.startsWith('login/')) {
    // Whom the client says its user is logs in, without being asked.
    const { params } = await current.made.interactionDetails(request, response);
    await current.made.interactionFinished(request, response, { login: { accountId: params.login_hint } });
    return;
  }
  const found = TESTS[name];
  const answer = found ? await found(await bodyOf(request)) : { error: 'there is no such test' };
  response.writeHead(found ? 200 : 404, { 'content-type': 'application/json' });
  response.end(JSON.stringify(answer));
}

const server = createServer((request, response) => {
  const path = request.url.split('?', 1)[0];
  if (!path.startsWith('/test/')) {
    counts[path] = (counts[path] ?? 0) + 1;
    current.answer(request, response);
    return;
  }
  test(path.slice('/test/'.length), request, response).catch((error) => {
    console.error(error);
    if (!response.headersSent) response.writeHead(500);
    response.end(JSON.stringify({ error: String(error) }));
  });
});

if (!ring.keys.length) await STEPS.sudden({ alg: settings.algorithm });
keepKeys();
current = makeProvider();
server.on('error', (error) => { console.error(error.message); process.exit(1); });
server.listen(settings.port, '127.0.0.1');
